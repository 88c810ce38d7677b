import json
from collections import Counter
from dataclasses import replace

import pytest
import webdataset as wds
from lightning.pytorch import Callback, LightningModule

from fcot.errors import UserError
from fcot.evaluation.records import Evaluation
from fcot.runtime.trainer import Trainer
from fcot.training.sft import SFT
from shards.build import build_set
from shards.feed.collate import idle_batch
from shards.feed.datamodule import Shards
from shards.feed.ledger import Ledger
from shards.feed.reader import BatchStream, PageLoader
from shards.format.writer import write_set
from shards.render.recipes import Draw

BROKEN = {
    "undecodable_image": lambda members: {**members, "png": members["png"][:200]},
    "placeholder_without_image": lambda members: {"__key__": members["__key__"], "json": members["json"]},
    "bad_json": lambda members: {**members, "json": b"{"},
}


def write(folder, samples, broken=()):
    """A set of pages, the first of them broken in the ways named."""
    folder.mkdir(parents=True)
    draw = Draw("letters", "train", 0, 100)
    with wds.TarWriter(str(folder / "shard-000000.tar")) as tar:
        for index in range(samples):
            members = draw(index).members(f"{index:04d}")
            tar.write(BROKEN[broken[index]](members) if index < len(broken) else members)
    (folder / "manifest.json").write_text(json.dumps({"samples": samples}))


class Keys(Callback):
    """Remembers what each step was trained on."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append((trainer.current_epoch, batch.keys))


def trainer_of(run, max_steps=4, **options):
    return Trainer(
        accelerator="cpu",
        default_root_dir=run,
        max_steps=max_steps,
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        **options,
    )


def fit(root, run, checkpoint, **options):
    """Train for one pass and return the trainer."""
    trainer = trainer_of(run, enable_checkpointing=False)
    trainer.fit(SFT(checkpoint), Shards(root, batch_size=4, **{"num_workers": 0, **options}))
    return trainer


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_goes_on_without_its_few_unusable_samples_and_names_them(tmp_path, tiny_checkpoint, workers):
    write(tmp_path / "data" / "train", 19, list(BROKEN))
    trainer = fit(tmp_path / "data", tmp_path / "run", tiny_checkpoint, max_skipped=0.2, num_workers=workers)
    assert trainer.global_step == 4
    lines = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert sorted((line["key"], line["reason"]) for line in lines) == [
        (f"{index:04d}", reason) for index, reason in enumerate(BROKEN)
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_stops_when_too_many_samples_are_unusable(tmp_path, tiny_checkpoint, workers):
    write(tmp_path / "data" / "train", 19, list(BROKEN))
    with pytest.raises(UserError) as caught:
        fit(tmp_path / "data", tmp_path / "run", tiny_checkpoint, max_skipped=0.12, num_workers=workers)
    message = str(caught.value)
    assert "3 of 19 samples could not be used, more than max_skipped=12.00%" in message
    assert all(f"1 {reason}" in message for reason in BROKEN)
    assert str(tmp_path / "run" / "skipped.jsonl") in message


def test_a_run_on_nothing_usable_stops(tmp_path, tiny_checkpoint):
    write(tmp_path / "data" / "train", 2, ["bad_json", "bad_json"])
    with pytest.raises(UserError, match="None of the 2 samples"):
        fit(tmp_path / "data", tmp_path / "run", tiny_checkpoint, max_skipped=1.0)


def test_a_recipe_builds_the_sets_that_are_missing_and_no_other(tmp_path, capsys):
    build_set(tmp_path, "letters", "dev", 3, workers=1)
    shards = Shards(tmp_path, recipe="letters", recipe_samples={"train": 5, "dev": 7}, recipe_seed=4)
    shards.prepare_data()
    said = f"{tmp_path / 'dev'} has 3 samples; the configuration asks for 7, and what is there is taken."
    out = capsys.readouterr().out  # a bar may stand before it, by what an earlier test made of rich's console
    assert said in out and out.count("is taken") == 1
    assert (shards.size("train"), shards.size("dev"), shards.size("test")) == (5, 3, None)
    assert json.loads((tmp_path / "train" / "manifest.json").read_text())["seed"] == 4


def test_a_recipe_draws_nothing_beside_data_of_ones_own(tmp_path):
    write(tmp_path / "mine" / "train", 2)
    options = {"recipe": "letters", "recipe_samples": {"train": 5, "dev": 3}}
    shards = Shards(tmp_path / "mine", **options)
    with pytest.raises(
        UserError, match=r"mine/train is not drawn pages, and \S*mine has no dev\.\n.*--data.recipe null"
    ):
        shards.prepare_data()
    too_deep = Shards(tmp_path / "mine" / "train", **options)
    with pytest.raises(UserError, match=r"mine/train holds shards itself\.\nGive the folder above it"):
        too_deep.prepare_data()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["train"]
    assert not [path for path in (tmp_path / "mine" / "train").iterdir() if path.is_dir()]
    write(tmp_path / "mine" / "dev", 2)
    shards.prepare_data()
    assert (shards.size("train"), shards.size("dev")) == (2, 2)


def test_a_limit_is_the_size_of_what_is_read(tmp_path, tiny_checkpoint):
    write(tmp_path / "dev", 5)
    shards = Shards(tmp_path, dev_samples=3, eval_batch_size=2, num_workers=0)
    layout = SFT(tiny_checkpoint).layout
    assert shards.size("dev") == 3
    assert sum(map(len, shards.loader("dev", layout=layout))) == 3
    assert sum(map(len, shards.loader("dev", layout=layout, limit=1))) == 1


def test_a_module_that_says_nothing_of_pages_is_refused(tmp_path, tiny_checkpoint):
    class Other(LightningModule):
        def training_step(self, batch, batch_idx):
            """Never called."""

        def configure_optimizers(self):
            """Nothing learns."""

    write(tmp_path / "data" / "train", 1)
    trainer = Trainer(
        accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_checkpointing=False, max_steps=1
    )
    with pytest.raises(UserError, match="no page layout"):
        trainer.fit(Other(), Shards(tmp_path / "data", num_workers=0))


def test_a_resumed_run_goes_on_with_the_samples_that_come_next(tmp_path, tiny_checkpoint):
    write(tmp_path / "train", 7)

    def steps(run, until, resume=None):
        seen = Keys()
        data = Shards(tmp_path, batch_size=2, num_workers=0)
        trainer_of(tmp_path / run, until, callbacks=[seen]).fit(SFT(tiny_checkpoint), data, ckpt_path=resume)
        return seen.steps

    whole = steps("whole", 10)
    assert [sorted(key for _, keys in whole[at : at + 4] for key in keys) for at in (0, 4)] == [
        [f"{number:04d}" for number in range(7)]
    ] * 2
    for stop in (3, 4, 6):  # within an epoch, behind its last step, in the next
        assert steps(str(stop), stop) + steps(str(stop), 10, "last") == whole


def test_data_that_changed_since_the_checkpoint_are_not_resumed(tmp_path, tiny_checkpoint):
    write(tmp_path / "train", 3)
    data = Shards(tmp_path, num_workers=0, batch_size=2)
    state = {"epoch": 1, "samples": 2, "seed": 0, "set": data.samples("train").manifest_hash}
    data.trainer = trainer_of(tmp_path / "run")
    data.trainer.strategy.connect(SFT(tiny_checkpoint))
    data.load_state_dict(state)
    assert len(list(data.train_dataloader())) == 1
    (source, *_), _ = data.samples("train").names("source")
    other = Shards(tmp_path, num_workers=0, batch_size=2, repeat_time={source: 2.0})
    other.trainer = data.trainer
    other.load_state_dict(data.state_dict())
    with pytest.raises(UserError, match=r"have changed since this checkpoint: one of data.weights, data.repeat_time"):
        other.train_dataloader()
    for name, value, said in (("seed", 5, "data.seed is 0 and was 5"), ("set", "abc", "train has other samples")):
        data.load_state_dict({**state, name: value})
        with pytest.raises(UserError, match=f"have changed since this checkpoint: .*{said}"):
            data.train_dataloader()


@pytest.mark.parametrize(("batch_size", "ranks"), [(4, 1), (2, 2), (1, 4)])
def test_ranks_and_workers_take_the_same_samples_in_each_global_step(tiny_shards, tiny_checkpoint, batch_size, ranks):
    layout = SFT(tiny_checkpoint).layout
    (whole,) = steps_of(tiny_shards, layout, 4, 1)
    expected = [sorted(keys) for keys in whole]
    found = steps_of(tiny_shards, layout, batch_size, ranks, at=(2, 0))
    assert {len(rank) for rank in found} == {8}
    assert [sorted(key for keys in step for key in keys) for step in zip(*found, strict=True)] == expected


def steps_of(root, layout, batch_size, ranks, at=(2, 0)):
    data = Shards(root, batch_size=batch_size, num_workers=0)
    order = data.order("train", layout, training=True)
    found = []
    for rank in range(ranks):
        stream = BatchStream(
            data.samples("train"), layout, order, batch_size=batch_size, rank=rank, world_size=ranks, training=True
        )
        loader = PageLoader(stream, Ledger(None, None, 1.0), at=at)
        found.append([batch.keys for batch in loader])
    return found


def test_a_rank_without_a_sample_takes_part_in_the_step_and_learns_nothing(tmp_path, tiny_checkpoint):
    write(tmp_path / "train", 1)
    module = SFT(tiny_checkpoint)
    found = steps_of(tmp_path, module.layout, 1, 2)
    assert sorted(key for rank in found for keys in rank for key in keys) == ["", "0000"]
    module.configure_model()
    loss = module.losses(idle_batch(module.layout))["loss"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters() if p.requires_grad)


def readings(data, layout):
    """How often each task's samples are read in an epoch, from the fewest."""
    keys = Counter(key for batch in data.loader("train", training=True, layout=layout) for key in batch.keys)
    tasks = dict.fromkeys(data.task_sizes(), ())
    for number in range(len(data.samples("train"))):
        task = json.loads(data.samples("train").read(number)["json"])["task"]
        tasks[task] = (*tasks[task], keys[data.samples("train").name(number)[1]])
    return {task: sorted(counts) for task, counts in tasks.items()}


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory):
    """Four tables and six texts."""
    root = tmp_path_factory.mktemp("two")
    draw = Draw("letters", "train", 0, 10)
    write_set(root / "train", lambda index: replace(draw(index), task="table" if index < 4 else "text"), 10)
    return root


def test_weights_change_how_often_a_task_is_read_and_not_the_length_of_an_epoch(two_tasks, tiny_checkpoint):
    layout = SFT(tiny_checkpoint).layout

    def read(**options):
        return readings(Shards(two_tasks, num_workers=0, batch_size=4, **options), layout)

    assert read() == read(weights={"table": 3.0, "text": 3.0}) == {"table": [1] * 4, "text": [1] * 6}
    assert read(weights={"table": 2.0, "text": 1 / 3}) == {"table": [2] * 4, "text": [0] * 4 + [1] * 2}
    assert read(weights={"table": 6.0}) == read(weights={"table": 2.0, "text": 1 / 3})
    assert read(weights={"text": 0.0}) == {"table": [2, 2, 3, 3], "text": [0] * 6}
    sources, _ = Shards(two_tasks).samples("train").names("source")
    thrice = read(weights={"table": 6.0}, repeat_time=dict.fromkeys(sources, 3.0))
    assert thrice == {"table": [6] * 4, "text": [1] * 6}
    data = Shards(two_tasks, weights={"table": 6.0})
    assert data.task_sizes() == {"table": 4, "text": 6}
    assert data.task_reads() == pytest.approx({"table": 2.0, "text": 1 / 3})
    assert Shards(two_tasks).task_reads() == {"table": 1.0, "text": 1.0}


def test_weights_of_a_file_are_taken_and_those_of_a_rule_read_no_sample_more_than_three_times(
    two_tasks, tiny_checkpoint, tmp_path
):
    layout, weights = SFT(tiny_checkpoint).layout, tmp_path / "task_losses.json"
    write_set(
        tmp_path / "train", lambda n: replace(Draw("letters", "train", 0, 12)(n), task="rare" if n < 1 else "b"), 12
    )
    for said, expected in (({}, [12]), ({"rule": "excess"}, [3])):
        weights.write_text(json.dumps({"weights": {"rare": 1.0, "b": 0.0}, **said}))
        found = readings(Shards(tmp_path, weights=weights, num_workers=0, batch_size=4), layout)
        assert found["rare"] == expected
    weights.write_text(json.dumps({"table": 2.0, "text": 1 / 3}))
    found = readings(Shards(two_tasks, weights=weights, num_workers=0, batch_size=4), layout)
    assert found == {"table": [2] * 4, "text": [0] * 4 + [1] * 2}


def test_weights_that_cannot_be_meant_are_refused(two_tasks, tiny_checkpoint, tmp_path):
    layout, weights = SFT(tiny_checkpoint).layout, tmp_path / "weights.json"
    weights.write_text("[]")
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"weights": {"txt": 2.0}}))
    for given, said in (
        ({"txt": 2.0}, r"no task 'txt' in .*train\. Did you mean 'text'"),
        (other, r"no task 'txt' in .*train\. Did you mean 'text'"),
        ({"text": -1.0}, r"The task 'text' has weight -1"),
        ({"text": 0.0, "table": 0.0}, r"tasks table, text have weight 0, so there is nothing to read"),
        (weights, "Weights of tasks cannot be read from"),
    ):
        with pytest.raises(UserError, match=said):
            Shards(two_tasks, weights=given).order("train", layout, training=True)


def test_a_rank_that_can_read_nothing_of_a_step_keeps_the_others_company(tmp_path, tiny_checkpoint):
    write(tmp_path / "dev", 4, ["undecodable_image"])
    module = SFT(tiny_checkpoint)
    data = Shards(tmp_path, num_workers=0)
    samples, order, loaders = data.samples("dev"), data.order("dev", module.layout), []
    for rank in range(2):
        options = {"batch_size": 1, "rank": rank, "world_size": 2, "with_prompts": True}
        loaders.append(PageLoader(BatchStream(samples, module.layout, order, **options), Ledger(None, None, 1.0)))
    found = [list(loader) for loader in loaders]
    assert [len(batches) for batches in found] == [2, 2]
    assert (sum(each.ledger.consumed for each in loaders), sum(each.ledger.skipped for each in loaders)) == (3, 1)
    (idle,) = [batch for batches in found for batch in batches if batch.idle]
    module.configure_model()
    evaluation, logged = Evaluation(module.metrics), []
    assert module.read(idle, evaluation) == evaluation.records == []
    module.log = lambda name, value, **options: logged.append((float(value.detach()), options["batch_size"]))
    module.eval().validation_step(idle, 0)
    assert logged and {weight for _, weight in logged} == {0}
    assert all(value == value for value, _ in logged)  # no NaN, which no weight would make harmless


def test_evaluation_gives_every_rank_as_many_batches_and_no_idle_one(tmp_path, tiny_checkpoint):
    write(tmp_path / "dev", 5)
    layout = SFT(tiny_checkpoint).layout
    data = Shards(tmp_path, num_workers=0)
    order = data.order("dev", layout)
    streams = [
        BatchStream(data.samples("dev"), layout, order, batch_size=1, rank=rank, world_size=2) for rank in range(2)
    ]
    found = [[batch.keys for batch in PageLoader(stream, Ledger(None, None, 1.0))] for stream in streams]
    assert [len(steps) for steps in found] == [2, 2]
    assert sorted(key for steps in found for keys in steps for key in keys) == [f"{n:04d}" for n in range(5)]
