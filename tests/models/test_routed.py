"""A router gives the tiles of a request their ratios: in generate, processor and chat, alone or in a batch."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import cut
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.route import SeenTiles
from fcot.serve.dialogue import Dialogue

IMAGE = "<IMG_CONTEXT>"
SETTINGS = {
    "price": 0.2,
    "rule": [[1.0, 4.0], [0.1, 0.2]],
    "rule_price": 0.2,
    "hidden": 8,
}


def student(tiny_checkpoint, folder, kind):
    """An exported student with a router of random weights."""
    torch.manual_seed(1)
    pair = StudentTeacher(tiny_checkpoint, StudentSpec("conv", 2, keep_positions=True, ratios=(2, 4)))
    own = ModelFolder(tiny_checkpoint).preprocessing
    pair.student.config.router = {"kind": kind, **SETTINGS, **{name: own[name] for name in ("image_mean", "image_std")}}
    pair.student.model.multi_modal_projector.set_router(pair.student.config.router)
    with torch.no_grad():
        for parameter in pair.student.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        if (router := pair.student.model.multi_modal_projector.router) is not None:
            router.last.weight *= 0.1
            router.last.bias.copy_(torch.tensor([-1.0, 0.5]))
    save_student(pair.student, folder / "student", tiny_checkpoint)
    main(["export", str(folder / "student"), str(folder / "exported")])
    return folder / "exported"


@pytest.fixture(scope="module")
def learned(tiny_checkpoint, tmp_path_factory):
    return student(tiny_checkpoint, tmp_path_factory.mktemp("learned"), "learned")


@pytest.fixture(scope="module")
def ruled(tiny_checkpoint, tmp_path_factory):
    return student(tiny_checkpoint, tmp_path_factory.mktemp("ruled"), "ink")


def page(width, height):
    """A page whose tiles have more ink from left to right."""
    drawn = np.random.default_rng(width).random((height, width, 3))
    return Image.fromarray((255 * (drawn > np.linspace(0, 1, width)[None, :, None])).astype(np.uint8))


ONE, THREE, SEVEN = page(56, 56), page(112, 56), page(168, 112)  # tiles of each
TEXTS = (f"{IMAGE} first {IMAGE} second", f"{IMAGE} third")
IMAGES = [[ONE, THREE], [SEVEN]]


def new_tokens(model, given, **asked):
    """What is generated after each prompt, and the prompts and counts as they were read."""
    laid_out = model.route(**given, **asked)
    ids = model.generate(**laid_out, max_new_tokens=5, pad_token_id=0)
    return ids[:, laid_out["input_ids"].shape[1] :], laid_out


@pytest.mark.parametrize("asked", [{"visual_tokens": "auto"}, {"budget": 20}, {"visual_tokens": [4, "auto", 1]}])
@pytest.mark.parametrize("kind", ["learned", "ruled"])
def test_a_request_is_routed_and_answered_the_same_in_any_batch(kind, asked, request):
    folder = request.getfixturevalue(kind)
    processor, model = AutoProcessor.from_pretrained(folder), load_student(folder).eval()
    together, laid_out = new_tokens(model, processor(IMAGES, list(TEXTS), return_tensors="pt"), **asked)
    counts = laid_out["tile_tokens"].split([4, 7])
    places = (laid_out["input_ids"] == processor.image_token_id).sum(1).tolist()
    assert places == [int(each.sum()) for each in counts]
    if "budget" in asked:
        assert max(places) <= 20
    for number, (images, text) in enumerate(zip(IMAGES, TEXTS, strict=True)):
        own = dict(asked)
        if isinstance(asked.get("visual_tokens"), list):
            own = {"visual_tokens": asked["visual_tokens"][:2] if number == 0 else asked["visual_tokens"][2:]}
        given = processor(images, text, return_tensors="pt")
        alone, its = new_tokens(model, given, **own)
        assert torch.equal(its["tile_tokens"], counts[number])
        assert torch.equal(alone[0], together[number])
        found = model.generate(**processor(images, text, return_tensors="pt", **own), max_new_tokens=5, pad_token_id=0)
        assert torch.equal(found[0], torch.cat([its["input_ids"][0], alone[0]]))


def test_a_rule_routes_in_the_processor_and_a_learned_router_in_the_model(ruled, learned):
    rule, router = AutoProcessor.from_pretrained(ruled), AutoProcessor.from_pretrained(learned)
    given = rule(SEVEN, TEXTS[1], visual_tokens="auto", return_tensors="pt")
    counts = given["tile_tokens"].tolist()
    assert counts[0] < counts[2] and counts[3] < counts[5]  # more ink on the right
    assert counts[-1] == 1 and "visual_tokens" not in given  # a thumbnail costs least
    one = rule(ONE, TEXTS[1], visual_tokens="auto", return_tensors="pt")["tile_tokens"].tolist()
    both = rule([[ONE, SEVEN]], TEXTS[:1], visual_tokens="auto", return_tensors="pt")["tile_tokens"].tolist()
    assert both == one + counts  # one price, whatever else is in the request
    later = router(SEVEN, TEXTS[1], visual_tokens="auto", return_tensors="pt")
    assert later["tile_tokens"].tolist() == [2] * 7 and later["visual_tokens"] == "auto"


def test_the_tower_looks_once_at_what_is_routed(learned):
    processor, model = AutoProcessor.from_pretrained(learned), load_student(learned).eval()
    looks = []
    model.model.vision_tower.register_forward_hook(lambda *_: looks.append(1))
    model.generate(**processor(SEVEN, TEXTS[1], visual_tokens="auto", return_tensors="pt"), max_new_tokens=3)
    dialogue = Dialogue(ModelFolder(learned), [cut(SEVEN, 6, tile_size=56)], budget=12)
    dialogue.pair.student.model.vision_tower.register_forward_hook(lambda *_: looks.append(1))
    dialogue.ask("What?", max_new_tokens=2)
    dialogue.ask("And then?", max_new_tokens=2)
    assert len(looks) == 1  # the first page of the dialogue was looked at before it was hooked
    assert dialogue.visual_tokens[0] <= 12


def test_a_saved_router_is_the_same_and_is_not_trained(learned, tiny_checkpoint):
    pair = StudentTeacher(learned)
    pair.train_parts("vision", "projector", "llm")
    assert not [name for name, _ in pair.trainable() if ".router." in name]
    router = pair.student.model.multi_modal_projector.router
    tiles = cut(SEVEN, 6, tile_size=56)
    seen = SeenTiles(tiles, [7], pair.features(tiles))
    again = load_student(learned.parent / "student").model.multi_modal_projector.router
    assert torch.equal(again.costs(seen), router.costs(seen))
    assert len(set(router.costs(seen)[:, 1].tolist())) > 1
    half = StudentTeacher(learned, dtype=torch.bfloat16)
    assert next(half.student.model.vision_tower.parameters()).dtype == torch.bfloat16
    for name, tensor in half.student.model.multi_modal_projector.router.state_dict().items():
        assert torch.equal(tensor, router.state_dict()[name]), name


def test_the_model_card_says_what_can_be_asked_for(learned):
    assert "a ratio for each tile, if it is asked for 'auto' or a budget" in (learned / "README.md").read_text()


def test_what_cannot_be_given_is_refused(learned):
    model, processor = load_student(learned), AutoProcessor.from_pretrained(learned)
    for asked, said in (({"budget": 6}, "7 tiles have at least 7"), ({"visual_tokens": ["auto"] * 2}, "2 numbers for")):
        with pytest.raises(UserError, match=said):
            model.generate(**processor(SEVEN, TEXTS[1], return_tensors="pt"), **asked)
    with pytest.raises(UserError, match="Both visual_tokens and budget"):
        processor(SEVEN, TEXTS[1], budget=20, visual_tokens="auto")


def test_chat_says_tiles_ratios_and_tokens(ruled, tmp_path, capsys):
    SEVEN.save(tmp_path / "page.png")
    words = ["chat", str(ruled), "--image", str(tmp_path / "page.png"), "--question", "What?", "--max_new_tokens", "2"]
    main([*words, "--max_tiles", "6", "--visual_tokens", "auto"])
    said = capsys.readouterr().out
    counts = AutoProcessor.from_pretrained(ruled)(SEVEN, TEXTS[1], visual_tokens="auto")["tile_tokens"].tolist()
    ratios = ", ".join(f"{counts.count(4 // r)} at ratio {r}" for r in (1, 2, 4) if counts.count(4 // r))
    assert f"page.png: 7 tiles, {sum(counts)} visual tokens instead of 28 ({ratios})" in said


WITHOUT_FCOT = """\
import sys
sys.modules["fcot"] = None  # any import of it fails
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
given = processor(Image.open(sys.argv[2]), "<IMG_CONTEXT> third", budget=15, return_tensors="pt")
print(model.generate(**given, max_new_tokens=5)[0].tolist())
"""


@pytest.mark.slow
def test_an_exported_router_works_without_fcot(learned, tmp_path):
    SEVEN.save(tmp_path / "page.png")
    words = [sys.executable, "-c", WITHOUT_FCOT, str(learned), str(tmp_path / "page.png")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    given = AutoProcessor.from_pretrained(learned)(SEVEN, TEXTS[1], budget=15, return_tensors="pt")
    assert done.stdout.splitlines()[-1] == str(load_student(learned).generate(**given, max_new_tokens=5)[0].tolist())
