"""The loss of what a chain of thought concludes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import IGNORED
from fcot.models.student_teacher import answer_labels
from fcot.training.conclusion_losses import conclusion_losses, conclusion_start
from fcot.training.realign import Realign

TEACHER = Path("fcot/tiny/teacher")
CHAIN = "pine: 12\n12+3=15\nAnswer: 15"


@pytest.mark.parametrize(
    ("answers", "conclusion"),
    [
        ([CHAIN], "15<|im_end|>"),
        (["just text"], "just text<|im_end|>"),
        (
            ["Question: a\nAnswer: b\nQuestion: c\nAnswer: d"],
            "Question: a\nAnswer: b\nQuestion: c\nAnswer: d<|im_end|>",
        ),
        (["Answer: a\nlast line of a page"], "Answer: a\nlast line of a page<|im_end|>"),
        ([CHAIN, "more: 1\nAnswer: no"], "no<|im_end|>"),
        ([CHAIN, "no"], f"{CHAIN}<|im_end|>no<|im_end|>"),
    ],
)
def test_a_conclusion_is_what_follows_the_marker_of_the_last_answer_or_all_there_is(answers, conclusion):
    folder = ModelFolder(TEACHER)
    turns = [turn for text in answers for turn in ({"from": "human", "value": "?"}, {"from": "gpt", "value": text})]
    labels = folder.encoder().encode(turns, []).labels
    places = np.flatnonzero(labels != IGNORED)
    ids = torch.from_numpy(labels[places])
    start = conclusion_start(ids, torch.from_numpy(places), folder.tokenizer)
    assert folder.tokenizer.decode(ids[start:]) == conclusion


def test_tokens_of_several_characters_and_split_characters_are_counted_as_tokens():
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    plain.train_from_iterator([CHAIN] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    ids = torch.tensor(tokenizer("漢字 is 3\nAnswer: 15 km")["input_ids"])
    assert len(ids) < 20  # "Answer" and " 15" are single tokens, "漢" is three
    start = conclusion_start(ids, torch.arange(len(ids)), tokenizer)
    assert tokenizer.decode(ids[start:]) == " 15 km"


def test_losses_are_those_of_each_sample_alone_from_full_logits(tiny_checkpoint, make_batch):
    module = Realign(tiny_checkpoint)
    module.configure_model()
    module.eval()
    samples = [("sum?", CHAIN, 2), ("what?", "twelve words", 1)]
    for branch in ("student", "teacher"):
        found = conclusion_losses(module, [make_batch(*samples)], branch)
        whole = conclusion_losses(module, [make_batch(*samples)], branch, whole=True)
        for question, answer, tiles in samples:
            batch = make_batch((question, answer, tiles))
            rows = module.pair.teacher_rows(batch) if branch == "teacher" else module.pair.student_rows(batch)
            labels = answer_labels(batch.sequences[branch])
            with torch.no_grad():
                each = torch.nn.functional.cross_entropy(rows @ module.pair.head_weight.T, labels, reduction="none")
            length = 3 if answer == CHAIN else len(labels)  # "1", "5" and the end
            assert found["text"][question] == pytest.approx(float(each[-length:].mean()), rel=1e-4)
            assert whole["text"][question] == pytest.approx(float(each.mean()), rel=1e-4)
