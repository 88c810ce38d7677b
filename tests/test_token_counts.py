"""A compressor that gives each tile 4 or 8 visual tokens, by its ink, goes all the way."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoConfig, InternVLForConditionalGeneration

from fcot.batch import PageLayout
from fcot.cli.main import main
from fcot.compress import COMPRESSORS
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.decode import open_image
from fcot.internvl.pixels import denormalize, normalize
from fcot.internvl.tiling import cut
from fcot.internvl.tokens import token_steps
from fcot.models.base_model import CompressedInternVLModel
from fcot.models.image_processor import CompressedInternVLImageProcessor
from fcot.models.processor import CompressedInternVLProcessor
from fcot.models.student_folder import load_student, said_of_tokens, save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.serve.dialogue import Dialogue
from fcot.tiny import write_architecture
from shards.feed.collate import collate
from shards.feed.decode import Prepared

ROOT = Path(__file__).parents[1]
SOURCE = '''\
"""A compressor of somebody else."""

import torch
from torch import Tensor, nn

from fcot.compress import Compressor


class ByInk(Compressor):
    """Means of neighbours, of half as many where a tile has ink."""

    def __init__(self, *, ratio: int, side: int, width: int, ink: float = 0.5) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.ink, self.map = ink, nn.Linear(width, width)

    def counts(self, tiles: Tensor) -> Tensor:
        dark = (tiles < 128).float().mean((1, 2, 3)) > self.ink
        return torch.where(dark, self.max_tokens, self.max_tokens // 2)

    def forward(self, tokens: Tensor, counts: list[int]) -> Tensor:
        rows = [tile.unflatten(0, (count, -1)).mean(1) for tile, count in zip(tokens, counts)]
        pooled = torch.cat([tokens.new_zeros(0, self.width), *rows])
        return pooled + self.map(pooled)
'''
# question, answer, whether each tile has ink
SAMPLES = [("What?", "a", [1, 0]), ("Who??", "bcd", [1]), ("How much is it?", "x", [0, 0, 1]), ("2 + 2?", "4", [])]


@pytest.fixture(scope="module")
def by_ink(tmp_path_factory):
    """The package is installed."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "by_ink_elsewhere.py").write_text(SOURCE)
    info = folder / "by_ink_elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: by_ink_elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fcot.plugins]\nby_ink = by_ink_elsewhere\n")
    sys.path.insert(0, str(folder))
    import by_ink_elsewhere

    yield by_ink_elsewhere.ByInk
    sys.path.remove(str(folder))
    by_ink_elsewhere.ByInk.__name__ = "GoneByInk"  # what other tests list must not depend on whether this one ran
    by_ink_elsewhere.ByInk.__abstractmethods__ = frozenset({"gone"})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Tiles of 112 pixels, 16 visual tokens each."""
    folder = write_architecture(
        tmp_path_factory.mktemp("by_ink") / "tiny", tile_size=112, width=32, vision_layers=1, text_layers=2, heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["counted up", "positions kept"])
def pair(request, by_ink, teacher):
    torch.manual_seed(1)
    return StudentTeacher(teacher, compressor="by_ink", ratio=2, keep_positions=request.param).eval()


def tile(ink, seed):
    noise = torch.randint(256, (1, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return noise // 2 if ink else noise // 2 + 128


def make(pair, folder, *samples, token_budget=None):
    folder = ModelFolder(folder)
    encoder = folder.encoder()
    counts = {"teacher": TokenCounts(folder.config), "student": TokenCounts(pair.student.config)}
    prepared = []
    for question, answer, inks in samples:
        talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        tiles = [tile(ink, seed) for seed, ink in enumerate(inks, len(question))]
        prepared.append(
            Prepared(
                key=question,
                task="text",
                question=question,
                references=[answer],
                tiles=torch.cat([torch.zeros(0, 3, 112, 112, dtype=torch.uint8), *tiles]),
                encoded=encoder.encode(talk, [1] * len(inks)),
                prompt=encoder.encode(talk, [1] * len(inks), prompt_only=True),
            )
        )
    return collate(prepared, PageLayout(encoder, 112, 6, counts), token_budget)


def test_placeholders_follow_the_tiles(pair, teacher):
    batch = make(pair, teacher, *SAMPLES)
    assert batch.visual_tokens("student") == [12, 8, 16, 0]
    assert batch.visual_tokens("teacher") == [32, 16, 48, 0]
    ids = batch.sequences["student"].input_ids
    assert (ids == pair.student.config.image_token_id).sum(1).tolist() == [12, 8, 16, 0]


@torch.no_grad()
def test_rows_are_the_same_alone_batched_and_packed(pair, teacher):
    alone = torch.cat([pair.student_rows(make(pair, teacher, sample)) for sample in SAMPLES])
    assert torch.allclose(pair.student_rows(make(pair, teacher, *SAMPLES)), alone, atol=1e-5)
    packed = make(pair, teacher, *SAMPLES, token_budget=60)
    assert len(packed.sequences["student"].packs) > 1
    assert torch.allclose(pair.student_rows(packed), alone, atol=1e-5)


def test_a_pack_holds_what_fits_by_its_own_counts(pair, teacher):
    samples = [(f"What is on page {number}?", "a", [0, 0, 0]) for number in range(4)]
    for inks in ([0, 0, 0], [1, 1, 1]):
        one = make(pair, teacher, (*samples[0][:2], inks), token_budget=10**6).sequences["student"].lengths[0]
        batch = make(pair, teacher, *((*sample[:2], inks) for sample in samples), token_budget=2 * one)
        assert [len(pack) for pack in batch.sequences["student"].packs] == [2, 2]


def test_kept_positions_share_a_tile_evenly():
    assert token_steps(torch.tensor([8, 4]), 16).tolist() == [2] * 8 + [4] * 4
    assert token_steps(torch.tensor([3, 0, 1]), 16).tolist() == [6, 5, 5, 16]


def test_tokens_after_a_page_stand_where_the_teachers_do(pair, teacher):
    batch = make(pair, teacher, SAMPLES[0])
    ids = batch.sequences["student"].input_ids
    where = pair.positions("student", ids, None, batch.tile_tokens["student"])
    length = batch.sequences["teacher"].input_ids.shape[1]
    assert where is None or int(where[0, -1]) == length - 1


def test_a_mismatch_names_the_sample_its_tiles_expected_and_found(pair, teacher):
    batch = make(pair, teacher, *SAMPLES)
    wrong = replace(batch, tile_tokens={"student": torch.tensor([8, 4, 8, 8, 4, 8])})
    with pytest.raises(UserError, match=r"'How much is it\?' \(3 tiles\) has 16 image placeholders for 20 visual"):
        pair.student_rows(wrong)


@pytest.fixture(scope="module")
def saved(pair, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_student(pair.student, folder, teacher)
    return ModelFolder(folder)


@pytest.mark.parametrize("beams", [1, 2])
def test_evaluation_chat_and_generate_say_the_same(pair, saved, teacher, beams):
    model = load_student(saved.path).eval()
    mean, std = (torch.tensor(saved.preprocessing[key]) for key in ("image_mean", "image_std"))
    together = pair.answer(make(pair, teacher, *SAMPLES), "student", max_new_tokens=6, num_beams=beams)
    for sample, expected in zip(SAMPLES, together, strict=True):
        batch = make(pair, teacher, sample)
        assert pair.answer(batch, "student", max_new_tokens=6, num_beams=beams) == [expected]
        prompt = batch.sequences["student"].prompt_ids
        pixels = {"pixel_values": normalize(batch.tiles, mean, std), "tile_tokens": batch.tile_tokens["student"]}
        given = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), **(pixels if sample[2] else {})}
        new = model.generate(**given, max_new_tokens=6, num_beams=beams)[0, prompt.shape[1] :].tolist()
        assert saved.tokenizer.decode(new, skip_special_tokens=True) == saved.tokenizer.decode(expected)
        if beams == 1:
            said = Dialogue(saved, batch.tiles.split(1) if sample[2] else []).ask(sample[0], max_new_tokens=6)
            assert said == saved.tokenizer.decode(expected)


@torch.no_grad()
def test_forward_needs_the_counts_of_its_processor(saved):
    model = load_student(saved.path).eval()
    ids = torch.tensor([[model.config.image_token_id] * 8])
    with pytest.raises(UserError, match="Pass on tile_tokens"):
        model(input_ids=ids, pixel_values=torch.zeros(1, 3, 112, 112))
    assert model(input_ids=ids, pixel_values=torch.zeros(1, 3, 112, 112), tile_tokens=torch.tensor([8])).logits.shape


def test_serving_engines_refuse_it_before_they_answer(saved):
    with pytest.raises(UserError, match="gives tiles different numbers of visual tokens, which this engine cannot"):
        CompressedInternVLModel(saved.config)
    cutter = CompressedInternVLImageProcessor(size={"height": 112, "width": 112})
    processor = CompressedInternVLProcessor(cutter, saved.tokenizer, **said_of_tokens(saved.config))
    with pytest.raises(UserError, match=r"tiles have different numbers of visual tokens.*\n.*`fcot serve`"):
        processor._get_num_multimodal_tokens(image_sizes=[(112, 112)])


def test_tiles_come_back_from_their_normalised_values():
    every = torch.arange(256, dtype=torch.uint8).expand(1, 3, 256)[..., None]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.equal(denormalize(normalize(every, mean, std), mean, std), every)


EXPORTED = """\
import sys
sys.modules["fcot"] = None  # any import of it fails
import json
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read this."}]}]
text = processor.apply_chat_template(talk, add_generation_prompt=True)
given = processor(Image.open(sys.argv[2]), text, return_tensors="pt")
new = model.generate(**given, max_new_tokens=4)
answer = processor.tokenizer.decode(new[0, given["input_ids"].shape[1]:], skip_special_tokens=True)
print(json.dumps([given["tile_tokens"].tolist(), answer]))
"""


@pytest.mark.slow
def test_it_is_trained_tested_counted_asked_and_exported(by_ink, teacher, tmp_path, tiny_shards, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = {
        "checkpoint": str(teacher),
        "compressor": "by_ink",
        "compressor_options": {"ink": 0.1},
        "max_new_tokens": 4,
    }
    trainer = {"max_steps": 2, "accelerator": "cpu", "devices": 1, "default_root_dir": "run", "logger": False}
    trainer |= {"callbacks": [{"class_path": "SaveStudent"}], "limit_val_batches": 1, "enable_progress_bar": False}
    data = {"root": str(tiny_shards), "batch_size": 4, "num_workers": 0}
    config = {"model": {"class_path": "Realign", "init_args": model}, "trainer": trainer, "data": data}
    Path("run.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", "run.yaml", "--data.token_budget", "200"])
    student = Path("run/student")
    assert json.loads((student / "config.json").read_text())["image_seq_length"] == 8
    config["model"] = {"class_path": "SFT", "init_args": {"checkpoint": str(student), "max_new_tokens": 4}}
    Path("run.yaml").write_text(yaml.safe_dump(config))
    main(["test", "--config", "run.yaml", "--trainer.default_root_dir", "tested"])
    row = json.loads(Path("tested/test.json").read_text())
    assert 4 <= row["visual_tokens"] <= 8
    step = "bench step --device cpu --tiles 2 --answer 4 --repeats 1 --compressor by_ink --json bench.json"
    main([*step.split(), "--model", str(teacher)])
    assert json.loads(Path("bench.json").read_text())["compressor"] == "by_ink"
    main(["doctor", "--checkpoint", str(student)])
    page = np.full((112, 112, 3), 255, dtype=np.uint8)
    page[::3] = 0
    Image.fromarray(page).save("page.png")
    capsys.readouterr()
    main(["chat", str(student), "--image", "page.png", "--question", "Read this.", "--max_new_tokens", "4"])
    said = capsys.readouterr().out
    assert "up to 8 visual tokens a tile" in said
    assert "1 tiles, 8 visual tokens instead of 16" in said
    main(["export", str(student), "exported", "--base", "someone/teacher"])
    done = subprocess.run([sys.executable, "-c", EXPORTED, "exported", "page.png"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts, answer = json.loads(done.stdout.splitlines()[-1])
    assert counts == [8]
    folder = ModelFolder(student)
    dialogue = Dialogue(folder, [cut(open_image(Path("page.png")), folder.max_tiles, tile_size=112)])
    assert answer == dialogue.ask("Read this.", max_new_tokens=4)


def test_nothing_but_internvl_tokens_multiplies_tiles():
    """Elsewhere the visual tokens of tiles are asked for, never worked out: counts may differ from tile to tile."""
    names = ("per_tile", "image_seq_length", "max_tokens", "teacher_tokens", "tokens_a_tile")
    found = []
    for file in [*(ROOT / "fcot").rglob("*.py"), *(ROOT / "shards").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]:
        if file == ROOT / "fcot/internvl/tokens.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                text = ast.unparse(node)
                if any(name in text for name in names) and "raster" not in text:
                    found.append(f"{file.relative_to(ROOT)}: {text}")
    assert found == []


def test_the_name_is_registered_while_it_is_installed(by_ink):
    assert COMPRESSORS["by_ink"] is by_ink
