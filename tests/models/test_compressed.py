"""Every compressor inside a student: it starts as the pooled student, trains, answers, and reads no answer."""

import functools
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim import AdamW

from fcot.batch import PageLayout
from fcot.cli.main import main
from fcot.compress import COMPRESSORS
from fcot.compress.windows import WindowCompressor
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher, answer_labels
from fcot.models.token_counts import TokenCounts
from fcot.models.vision import split_levels
from fcot.serve.dialogue import Dialogue
from fcot.training.distillation import distillation_loss
from shards.feed.collate import collate
from shards.feed.decode import Prepared

CASES = [
    (name, place, ratio)
    for name, kind in sorted(COMPRESSORS.items())
    if name != "identity"
    for place in kind.places
    for ratio in (2, 4)
]
PAGES = (("What?", "a short one", 2), ("And a longer question?", "x", 1))
LEVELS = ("token_packer", "before", 2, {"levels": [2, 1]})
TEXT = ("llama_vid", "before", 2, {})
CONTEXT = ("llama_vid", "after", 2, {"context": "token"})


@pytest.fixture(scope="module")
def make(checkpoint):
    """Return a function that makes a pair of seeded weights."""

    def made(name, place, ratio, options=None, **given):
        torch.manual_seed(1)
        return StudentTeacher(
            checkpoint, compressor=name, placement=place, ratio=ratio, compressor_options=options, **given
        ).eval()

    return made


@pytest.fixture(scope="module")
def batched(checkpoint):
    """Return a function that batches (question, answer, tiles) for a pair; a sample's pages depend on its tiles."""
    encoder = ModelFolder(checkpoint).encoder()

    @functools.cache
    def pixels(tiles):
        draw = torch.Generator().manual_seed(tiles)
        return torch.randint(0, 256, (tiles, 3, 112, 112), generator=draw, dtype=torch.uint8)

    def prepared(question, answer, tiles):
        talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        given = {"key": question, "task": "text", "question": question, "references": [answer]}
        encoded, prompt = (encoder.encode(talk, [1] * tiles, prompt_only=only) for only in (False, True))
        return Prepared(**given, tiles=pixels(tiles), encoded=encoded, prompt=prompt)

    def make(pair, *samples, token_budget=None):
        branches = {"student": TokenCounts(pair.student.config)}
        if pair.teacher_projector is not None:
            branches["teacher"] = 16
        layout = PageLayout(encoder, 112, 6, branches)
        return collate([prepared(*sample) for sample in samples], layout, token_budget)

    return make


def loss_of(pair, batch):
    features = pair.features(batch.tiles)
    teacher, student = pair.teacher_rows(batch, features), pair.student_rows(batch, features)
    return distillation_loss(student, teacher, pair.head_weight, answer_labels(batch.sequences["student"]))


def moved(pair):
    """The pair with a projector and compressor that have left their start."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pair.student.model.multi_modal_projector.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)
    return pair


def visual_rows(pair, batch):
    """A student's visual tokens of all tiles, one after another."""
    sequences = batch.sequences["student"]
    ids = sequences.input_ids
    with torch.no_grad():
        embedded = pair.embed("student", batch, ids, pair.features(batch.tiles), sequences.lengths)
    return embedded[ids == pair.student.config.image_token_id]


@pytest.mark.parametrize("ratio", [2, 4])
def test_unshuffle_starts_near_the_pooled_student_and_keeps_its_projector_unused(make, batched, ratio):
    found, pooled = make("unshuffle", "instead", ratio), make("m3_pool", "before", ratio)
    batch = batched(found, *PAGES)
    rows, expected = (visual_rows(pair, batch) for pair in (found, pooled))
    assert torch.cosine_similarity(rows, expected).min() > 0.9
    found.train_parts("projector")
    trained = {name.rpartition("projector.")[2].partition(".")[0] for name, _ in found.trainable()}
    assert trained == {"compressor"}
    teacher, kept = found.teacher_projector.state_dict(), found.student.model.multi_modal_projector.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in teacher.items())


@pytest.fixture(scope="module")
def pooled(make, batched):
    """Return a function that gives the answer rows of a pooled student for PAGES."""

    @functools.cache
    def rows(name, place, ratio):
        pair = make(name, place, ratio, keep_positions=True)
        with torch.no_grad():
            return pair.student_rows(batched(pair, *PAGES))

    return rows


@pytest.mark.parametrize(
    ("name", "place", "ratio"),
    [pytest.param(*case, marks=pytest.mark.slow) if case[2] == 4 and case[1] == "after" else case for case in CASES],
)
def test_a_student_starts_as_the_pooled_one_and_learns_from_there(make, batched, pooled, name, place, ratio):
    pair = make(name, place, ratio, {"dropout": 0.0} if name == "unshuffle" else None, keep_positions=True)
    pair.train_parts("projector")
    batch = batched(pair, *PAGES)
    with torch.no_grad():
        found, features = pair.student_rows(batch), pair.features(batch.tiles)
        teacher = pair.teacher_rows(batch, features)
    if name not in ("qformer", "unshuffle"):
        expected = pooled("m3_pool" if issubclass(COMPRESSORS[name], WindowCompressor) else "pool", place, ratio)
        logits = [rows @ pair.head_weight.T for rows in (found, expected)]
        torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    pair.train()
    optimizer = AdamW([parameter for _, parameter in pair.trainable()], lr=1e-4)
    divergence = []
    for _ in range(4):
        rows, labels = pair.student_rows(batch, features), answer_labels(batch.sequences["student"])
        loss = distillation_loss(rows, teacher, pair.head_weight, labels, ce_weight=0.0)
        divergence.append(float(loss.kl))
        optimizer.zero_grad()
        loss.loss.backward()
        optimizer.step()
    assert divergence[3] < divergence[0]


@pytest.mark.parametrize(
    ("name", "place", "ratio", "options"),
    [*((name, kind.places[0], 2, {}) for name, kind in sorted(COMPRESSORS.items()) if name != "identity"), LEVELS],
)
def test_a_batch_without_pages_reaches_every_trainable_parameter(make, batched, name, place, ratio, options):
    pair = make(name, place, ratio, options)
    pair.train_parts("projector")
    loss_of(pair, batched(pair, ("What is 2 + 2?", "4", 0))).loss.backward()
    assert [name for name, parameter in pair.trainable() if parameter.grad is None] == []


def inputs(pair, batch, prompts=True):
    sequences = batch.sequences["student"]
    ids = sequences.prompt_ids if prompts else sequences.input_ids
    mask = sequences.prompt_mask if prompts else (ids != pair.student.config.text_config.pad_token_id).long()
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": normalize(batch.tiles, pair.mean, pair.std)}


@pytest.mark.parametrize("keep_positions", [False, True])
@pytest.mark.parametrize(
    ("name", "place", "ratio", "options"), [LEVELS, TEXT, CONTEXT, ("unshuffle", "instead", 4, {})]
)
def test_transformers_reads_and_answers_as_the_container(
    make, batched, checkpoint, tmp_path, name, place, ratio, options, keep_positions
):
    pair = moved(make(name, place, ratio, options, keep_positions=keep_positions))
    batch = batched(pair, *PAGES)
    save_student(pair.student, tmp_path / "student", checkpoint)
    loaded = load_student(tmp_path / "student").eval()
    with torch.no_grad():
        logits = loaded(**inputs(pair, batch, prompts=False)).logits.flatten(0, 1)[batch.sequences["student"].answers]
        expected = pair.student_rows(batch) @ pair.head_weight.T
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    answers = pair.answer(batch, "student", max_new_tokens=6, min_new_tokens=6)
    new = loaded.generate(**inputs(pair, batch), max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert new[:, batch.sequences["student"].prompt_ids.shape[1] :].tolist() == answers
    beams = loaded.generate(**inputs(pair, batch), max_new_tokens=4, min_new_tokens=4, num_beams=2, do_sample=False)
    expected = pair.answer(batch, "student", max_new_tokens=4, min_new_tokens=4, num_beams=2)
    assert beams[:, batch.sequences["student"].prompt_ids.shape[1] :].tolist() == expected


@pytest.mark.parametrize(("name", "place", "ratio", "options"), [TEXT, CONTEXT])
def test_a_pages_tokens_depend_on_the_question_and_on_no_answer(make, batched, name, place, ratio, options):
    pair = moved(make(name, place, ratio, options))
    rows, other_answer, other_question = (
        visual_rows(pair, batched(pair, sample, PAGES[1]))
        for sample in (
            ("What?", "a short one", 2),
            ("What?", "quite another and longer", 2),
            ("Whom?", "a short one", 2),
        )
    )
    assert torch.equal(rows, other_answer)
    assert not torch.allclose(rows, other_question, atol=1e-3)
    packed = batched(pair, ("What?", "a short one", 2), PAGES[1], token_budget=1000)
    torch.testing.assert_close(visual_rows(pair, packed), rows, rtol=1e-5, atol=1e-5)


def test_a_later_turn_does_not_change_a_pages_tokens(make, batched):
    from fcot.models.question import question_of, samples_of

    pair = make(*TEXT)
    image, (end,) = pair.student.config.image_token_id, pair.student.config.turn_end_ids
    first = [5, 6, end, 7, image, image, 8, end]
    for later in ([], [9, end], [9, end, 10, end, 11]):
        assert question_of(torch.tensor(first + later), image, {end}).tolist() == [7, 8]
    with pytest.raises(UserError, match="question about a page has no end"):
        question_of(torch.tensor([7, image, 8]), image, {end})
    ids, mask = torch.tensor([[0, 0, 7, image], [5, 7, image, image]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert [row.tolist() for row in samples_of(ids, mask)] == [[7, image], [5, 7, image, image]]


@pytest.mark.parametrize(("name", "place", "ratio", "options"), [LEVELS, TEXT, CONTEXT])
def test_questions_on_one_page_are_answered_together_as_alone(make, batched, name, place, ratio, options):
    pair = moved(make(name, place, ratio, options, keep_positions=True))
    questions = [("What?", "a", 2), ("And whom, where and how?", "b", 2), ("What?", "a", 2), ("2 + 2?", "4", 0)]
    together = pair.answer(batched(pair, *questions), "student", max_new_tokens=5, min_new_tokens=5)
    alone = [pair.answer(batched(pair, each), "student", max_new_tokens=5, min_new_tokens=5)[0] for each in questions]
    assert together == alone
    assert together[0] == together[2] != together[1]


def test_a_conversation_keeps_the_pages_tokens_of_its_first_question(make, batched, checkpoint, tmp_path):
    pair = moved(make(*TEXT))
    save_student(pair.student, tmp_path / "student", checkpoint)
    folder = ModelFolder(tmp_path / "student")
    batch = batched(pair, PAGES[0])
    dialogue = Dialogue(folder, [batch.tiles[:1], batch.tiles[1:]])
    answers = [dialogue.ask(question, max_new_tokens=4) for question in ("What?", "And then?")]
    (question, answer), (later, _) = dialogue.turns
    encoded = folder.encoder().prompt([question, later], [answer], [1, 1])
    ids = torch.from_numpy(encoded.ids).repeat_interleave(
        torch.where(torch.from_numpy(encoded.ids) == folder.config.image_token_id, 8, 1)
    )[None]
    whole = inputs(pair, batch) | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    new = pair.student.generate(**whole, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
    assert folder.tokenizer.decode(new, skip_special_tokens=True) == answers[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "unshuffle"}, r"placement is 'before'\. Use 'instead' \(of the projector\)"),
        ({"name": "conv", "place": "instead"}, r"placement is 'instead'\. Use 'before' or 'after'"),
        ({"name": "texthawk2", "place": "after"}, r"placement is 'after'\. Use 'before' \(the projector\)"),
        ({"name": "token_packer", "options": {"levels": [1, 3]}}, "reads layer 3 of a vision tower of 2"),
        (
            {"name": "token_packer", "place": "after", "options": {"levels": [1]}},
            r"reads layers \[1\] of the vision tower, but stands after the projector",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, given, message):
    with pytest.raises(UserError, match=message):
        make(given["name"], given.get("place", "before"), 2, given.get("options"))


@pytest.mark.parametrize(("name", "place", "ratio", "options"), [LEVELS, TEXT])
def test_features_without_what_the_compressor_reads_are_refused(make, batched, name, place, ratio, options):
    pair = make(name, place, ratio, options)
    pixels = inputs(pair, batched(pair, PAGES[1]))["pixel_values"]
    with pytest.raises(UserError, match=r"get_image_features cannot be used|Pass on input_ids"):
        pair.student.get_image_features(pixels, return_dict=True)


WITHOUT_FCOT = """\
import sys
sys.modules["fcot"] = None  # any import of it fails
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
torch.set_num_threads(1)
given, found = load_file(sys.argv[1]), {}
for name in sys.argv[3:]:
    model = AutoModelForImageTextToText.from_pretrained(name, trust_remote_code=True).eval()
    with torch.no_grad():
        own = {key: given[f"{name}.{key}"] for key in ("input_ids", "attention_mask", "pixel_values")}
        found[name] = model(**own).logits
save_file(found, sys.argv[2])
"""
EXPORTED = [
    *((name, kind.places[-1], 2, {}) for name, kind in sorted(COMPRESSORS.items()) if name != "identity"),
    LEVELS,
    CONTEXT,
]


@pytest.mark.slow
def test_every_exported_student_has_the_same_logits_without_fcot(make, batched, checkpoint, tmp_path):
    given, expected = {}, {}
    for number, (name, place, ratio, options) in enumerate(EXPORTED):
        pair, student = moved(make(name, place, ratio, options, keep_positions=True)), f"s{number}-{name}"
        save_student(pair.student, tmp_path / "student" / student, checkpoint)
        main(["export", str(tmp_path / "student" / student), str(tmp_path / student)])
        loaded, whole = load_student(tmp_path / "student" / student).eval(), inputs(pair, batched(pair, *PAGES))
        with torch.no_grad():
            expected[student] = loaded(**whole).logits
        given |= {f"{student}.{key}": tensor.contiguous() for key, tensor in whole.items()}
    save_file(given, tmp_path / "given.safetensors")
    words = [sys.executable, "-c", WITHOUT_FCOT, "given.safetensors", "found.safetensors", *expected]
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = load_file(tmp_path / "found.safetensors")
    assert [student for student in expected if not torch.equal(found[student], expected[student])] == []


def test_levels_are_what_the_layers_of_the_tower_give(make, batched):
    pair = make(*LEVELS)
    seen = {}
    for number, layer in enumerate(pair.student.model.vision_tower.encoder.layer):
        layer.register_forward_hook(lambda _, __, out, number=number: seen.update({number + 1: out}))
    with torch.no_grad():
        last, levels = split_levels(pair.features(batched(pair, PAGES[0]).tiles), [2, 1], 128)
        plain = make("conv", "before", 2).features(batched(pair, PAGES[0]).tiles)
    assert torch.equal(last, plain)
    for level in (1, 2):
        hidden = seen[level][0] if isinstance(seen[level], tuple) else seen[level]
        patches = hidden[:, 1:].unflatten(1, (8, 8))
        # the token at row 1 and column 2 is made of the patches of rows 2 and 3, columns 4 and 5
        assert torch.equal(levels[level][:, 1 * 4 + 2], patches[:, 2:4, 4:6].flatten(1))
