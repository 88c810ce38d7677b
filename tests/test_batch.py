import torch

from fcot.batch import answer_positions


def test_the_row_before_each_answer_token_predicts_it():
    labels = torch.tensor([[-100, 7, 8, -100], [5, -100, -100, 9], [-100, -100, -100, -100]])
    # the first token of a sequence has no row before it, and none of the sequence above
    assert answer_positions(labels).tolist() == [0, 1, 6]
