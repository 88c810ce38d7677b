"""Reducers that act before the language model: what is left of each page, alone, batched and in a conversation."""

from dataclasses import replace

import pytest
import torch

from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.student_teacher import StudentTeacher
from fcot.reduce import REDUCERS, BeforeReducer
from fcot.serve.dialogue import Dialogue

BEFORE = sorted(name for name, kind in REDUCERS.items() if issubclass(kind, BeforeReducer))
SAMPLES = [("What?", "a", 3), ("Who??", "b", 1), ("How much is it?", "x", 7), ("2 + 2?", "4", 0)]


@pytest.fixture(scope="module", params=["teacher", "student", "behind the projector"])
def reader(request, checkpoint):
    given = {} if request.param == "teacher" else {"compressor": "conv", "ratio": 2}
    placement = "after" if request.param == "behind the projector" else "before"
    kept = request.param == "student"
    torch.manual_seed(2)
    return StudentTeacher(checkpoint, **given, keep_positions=kept, placement=placement).eval()


@pytest.fixture
def batch(reader, checkpoint):
    """Returns a function that batches samples for the reader: images of two tiles and a thumbnail, or of one tile."""
    from fcot.batch import PageLayout
    from fcot.models.token_counts import TokenCounts
    from shards.feed.collate import collate
    from shards.feed.decode import Prepared

    encoder = ModelFolder(checkpoint).encoder()
    layout = PageLayout(encoder, 112, 6, {"student": TokenCounts(reader.student.config)})

    def prepared(question, answer, tiles):
        images = [3] * (tiles // 3) + [1] * (tiles % 3)
        talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        draw = torch.Generator().manual_seed(len(question))
        pixels = torch.randint(0, 256, (tiles, 3, 112, 112), generator=draw, dtype=torch.uint8)
        given = {"key": question, "task": "text", "question": question, "references": [answer], "tiles": pixels}
        encoded = encoder.encode(talk, images)
        prompt = encoder.encode(talk, images, prompt_only=True)
        return Prepared(**given, encoded=encoded, prompt=prompt, grids=[(max(1, each - 1), 1) for each in images])

    return lambda *samples: collate([prepared(*sample) for sample in samples], layout)


def answers(reader, batch, name=None, left=None, **options):
    reducer = name and REDUCERS[name](**options)
    return reader.answer(batch, "student", None, reducer, left, max_new_tokens=5)


@pytest.mark.parametrize("positions", ["renumbered", "original"])
@pytest.mark.parametrize("name", BEFORE)
def test_a_row_is_the_same_alone_and_batched_and_fewer_tokens_are_left(reader, batch, name, positions):
    left, options = [], {"keep": 0.5, "positions": positions}
    together = answers(reader, batch(*SAMPLES), name, left, **options)
    assert [answers(reader, batch(sample), name, **options)[0] for sample in SAMPLES] == together
    before = batch(*SAMPLES).visual_tokens("student")
    assert [each.kept for each in left] == [each.equivalent for each in left]
    assert [each.kept for each in left] == [number // 2 for number in before]


@pytest.mark.parametrize("name", ["divprune", "hired", "pool", "random", "tome", "vispruner"])
def test_all_tokens_kept_is_the_plain_model(reader, batch, name):
    positions = "original"  # which are consecutive ones where the reader does not keep the teacher's
    expected = answers(reader, batch(*SAMPLES))
    left = []
    found = answers(reader, batch(*SAMPLES), name, left, keep=1.0, positions=positions)
    if [each.kept for each in left] == batch(*SAMPLES).visual_tokens("student"):  # HiRED's floors may leave fewer
        assert found == expected


@pytest.mark.parametrize("name", BEFORE)
def test_a_conversation_is_reduced_as_a_test_is(reader, checkpoint, batch, name, tmp_path):
    from fcot.models.student_folder import save_student

    save_student(reader.student, tmp_path / "saved", checkpoint)
    page = batch(SAMPLES[0])
    dialogue = Dialogue(ModelFolder(tmp_path / "saved"), [page.tiles], reducer=REDUCERS[name](keep=0.5), grids=[(2, 1)])
    said = [dialogue.ask(SAMPLES[0][0], max_new_tokens=5), dialogue.ask("And then?", max_new_tokens=5)]
    (expected,) = answers(reader, page, name, keep=0.5)
    assert said[0] == dialogue.tokenizer.decode(expected, skip_special_tokens=True)
    assert len(dialogue.turns) == 2


@pytest.mark.parametrize("name", ["random", "fastv"])
def test_prompts_for_another_ratio_are_refused(reader, batch, name):
    page = batch(("What?", "a", 3))
    wrong = replace(page.sequences["student"], prompt_ids=page.sequences["student"].prompt_ids[:, 8:])
    wrong = replace(wrong, prompt_mask=torch.ones_like(wrong.prompt_ids))
    with pytest.raises(UserError, match=r"Sample 'What\?' \(3 tiles\) has \d+ image placeholders for \d+ visual"):
        reader.answer(replace(page, sequences={"student": wrong}), "student", None, REDUCERS[name](keep=0.5))


def test_a_compressor_without_windows_is_refused(checkpoint, make_batch):
    reader = StudentTeacher(checkpoint, compressor="qformer", ratio=2).eval()
    with pytest.raises(UserError, match="Qformer does not say which tokens its own stand for"):
        reader.answer(make_batch(("What?", "a", 0)), "student", None, REDUCERS["random"](), max_new_tokens=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("visionzip", {"keep": 0}, "keep is 0"),
        ("visionzip", {"score": "clz"}, "score is 'clz'"),
        ("vispruner", {"scope": "page"}, "scope is 'page'"),
        ("pool", {"keep": 0.3}, "keep is 0.3, and pool takes"),
        ("hired", {"alpha": 2}, "alpha is 2"),
        ("random", {"seed": -1}, "seed is -1"),
        ("divprune", {"positions": "new"}, "positions is 'new'"),
    ],
)
def test_values_that_cannot_be_are_said(name, options, message):
    with pytest.raises(UserError, match=message):
        REDUCERS[name](**options)
