import pytest
from torchmetrics.text import CharErrorRate

from fcot.metrics import CharacterErrorRate, paired_ratio
from fcot.metrics.character_error_rate import character_error_rate

PREDICTIONS = ["this is the prediction", "there is an other sample", "", "発票"]
REFERENCES = ["this is the reference", "there is another one", "lost", "発表"]


@pytest.mark.parametrize(
    ("prediction", "references", "rate"),
    [
        ("kitten", ["sitting"], 3 / 7),
        ("Cat", ["cat"], 1 / 3),  # case counts
        ("a  b", ["a b"], 1 / 3),  # so do spaces
        ("", ["cat"], 1.0),
        ("catcatcat", ["cat"], 2.0),
        ("cat", ["dog", "at", "cats"], 1 / 4),
        ("abcdef", ["abc", "abcdefghijkl"], 1 / 2),  # the lowest rate, not the fewest edits
        ("", [""], 0.0),
        ("ab", [""], 2.0),
    ],
)
def test_hand_counted(prediction, references, rate):
    assert character_error_rate(prediction, references) == pytest.approx(rate)


def test_equals_torchmetrics_on_single_references():
    ours, theirs = CharacterErrorRate(), CharErrorRate()
    ours.update(PREDICTIONS, [[reference] for reference in REFERENCES])
    theirs.update(PREDICTIONS, REFERENCES)
    assert ours.compute() == theirs.compute()


def test_long_samples_weigh_more():
    metric = CharacterErrorRate()
    metric.update(["x", "abcdefghi"], [["a"], ["abcdefghi"]])
    assert metric.compute() == pytest.approx(0.1)
    assert metric.sample_scores.tolist() == [1.0, 0.0]


def test_a_corpus_of_empty_pages_counts_edits():
    metric = CharacterErrorRate()
    metric.update([""], [[""]])
    assert metric.compute() == 0.0
    metric.update(["ab"], [[""]])
    assert metric.compute() == 2.0


def test_the_interval_of_the_corpus_rate_is_a_paired_ratio():
    metric = CharacterErrorRate()
    metric.update(PREDICTIONS, [[reference] for reference in REFERENCES])
    interval = paired_ratio(metric.sample_errors, metric.sample_characters)
    assert interval.mean == pytest.approx(metric.compute().item())
    assert interval.low < interval.mean < interval.high
