"""A run folder as the demo leaves it, with made-up answers to real pages."""

import json
import sys
import tarfile
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path

import pytest
import yaml
from PIL import Image

import fcot
from fcot.evaluation.records import Evaluation
from fcot.report import report

TEACHER = Path(fcot.__file__).parent / "tiny" / "teacher"  # tiles of 112 pixels, 16 visual tokens
SIZES = {"text": (224, 224), "table": (224, 112), "lookup": (112, 112)}
TILES = {"text": 5, "table": 3, "lookup": 1}  # a thumbnail counts
ANSWERS = {"text": "the quick brown fox\njumps over", "table": "|City|Pop|\n|Bern|{}|", "lookup": "{}"}
METRICS = {"*": ["anls"], "lookup": ["exact_match", "anls"]}
PAGES_A_TASK = 6
PAGES = [
    (f"{number:08d}", task, ANSWERS[task].format(1000 + number))
    for number, task in enumerate(task for _ in range(PAGES_A_TASK) for task in SIZES)
]
# How many of the pages of a task each model gets wrong.
WRONG = {"teacher": 1, "start-r2": 5, "realigned-r2": 3, "sft-r2": 2, "merged-r2": 2}
STAGES = {"start": "pooled start", "realigned": "re-aligned", "sft": "SFT", "merged": "SFT + merge"}
MERGE = {
    "players": ["step-1", "step-2"],
    "utilities": {"": 0.5, "step-1": 0.6, "step-2": 0.65, "step-1+step-2": 0.7},
    "shapley": {"step-1": 0.075, "step-2": 0.125},
    "controls": {
        "average": {"utility": 0.7, "weights": {"step-1": 0.5, "step-2": 0.5}},
        "shapley": {"utility": 0.71, "weights": {"step-1": 0.4, "step-2": 0.6}},
    },
    "chosen": "shapley",
    "seed": 0,
    "evaluations": 5,
    "wall_seconds": 12.0,
    "notes": ["a remark <of> the merge"],
    "split": "dev",
    "n": 20,
    "metric": "mean of ANLS",
}


def write_shards(root, pages=PAGES):
    """Write pages as the test set of a folder, one colour each."""
    (root / "test").mkdir(parents=True)
    with tarfile.open(root / "test" / "shard-000000.tar", "w") as tar:
        for key, task, answer in pages:
            png = BytesIO()
            Image.new("RGB", SIZES[task], (int(key), 200, 200)).save(png, format="PNG")
            conversations = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": answer}]
            record = json.dumps({"conversations": conversations, "task": task}).encode()
            for name, content in ((f"{key}.json", record), (f"{key}.png", png.getvalue())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    return root


def write_test(folder, *, ratio=1, stage="teacher", wrong=1, pages=PAGES, metrics=METRICS, spoil="{} <b>x"):
    """Write a test in which the last `wrong` pages of each task are answered with a spoilt reference."""
    evaluation = Evaluation(metrics)
    last = {task: [page for page in pages if page[1] == task][len(pages) // len(SIZES) - wrong :] for task in SIZES}
    evaluation.add(
        keys=[key for key, _, _ in pages],
        tasks=[task for _, task, _ in pages],
        questions=["Read & say."] * len(pages),
        references=[[answer] for _, _, answer in pages],
        predictions=[
            spoil.format(answer) if (key, task, answer) in last[task] else answer for key, task, answer in pages
        ],
        visual_tokens=[TILES[task] * 16 // ratio for _, task, _ in pages],
    )
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.write_records(folder / "test.jsonl")
    row = {"model": folder.name, "ratio": ratio, "stage": stage, "split": "test", "seed": 0, **evaluation.summary()}
    (folder / "test.json").write_text(json.dumps(row))
    return evaluation


def write_tests(run, wrong=WRONG):
    """Write the tests of a demo."""
    return {
        name: write_test(
            run / "eval" / name,
            ratio=2 if name.endswith("-r2") else 1,
            stage=STAGES.get(name.removesuffix("-r2"), name),
            wrong=count,
        )
        for name, count in wrong.items()
    }


def write_training(folder, scalars, **arguments):
    """Write what a training leaves: its configuration and its scalars."""
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "seed_everything": 3,
        "trainer": {"max_steps": 77},
        "model": {"class_path": "X", "init_args": arguments},
        "data": {"root": str(folder.parent / "data"), "batch_size": 4},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with SummaryWriter(str(folder / "lightning_logs" / "version_0")) as writer:
        for tag in scalars:
            for step in range(0, 50, 10):
                writer.add_scalar(tag, 1.0 / (step + 1), step)


def write_run(folder):
    """Write a whole run: tests, pages, trainings, a merge."""
    write_tests(folder)
    write_shards(folder / "data")
    realigned = ("train/loss", "train/kl", "train/ce", "train/agreement", "val/loss")
    write_training(folder / "realign-r2", realigned, checkpoint=str(TEACHER), ratio=2, compressor="conv")
    write_training(folder / "sft-r2", ("train/loss", "val/loss"), checkpoint="elsewhere")
    (folder / "sft-r2" / "merged").mkdir()
    (folder / "sft-r2" / "merged" / "merge.json").write_text(json.dumps(MERGE))
    return folder


@pytest.fixture(scope="session")
def made():
    """Everything in this file: how a run is made, and what is in it."""
    return sys.modules[__name__]


@pytest.fixture
def run(tmp_path):
    """A whole run that a test may change."""
    return write_run(tmp_path / "demo")


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """A whole run with its report, and what was printed; only to be read."""
    folder = write_run(tmp_path_factory.mktemp("reported") / "demo")
    with redirect_stdout(StringIO()) as printed:
        report(folder)
    return folder, printed.getvalue()
