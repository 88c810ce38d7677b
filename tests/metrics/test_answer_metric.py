"""The contract of every exported metric; exporting a new one is enough to test it."""

import importlib
import inspect
import json
import math
import pickle
import re
from pathlib import Path

import pytest
import torch
import torchmetrics

import fcot.metrics
from fcot.metrics.answer_metric import AnswerMetric

METRICS = [
    member
    for member in (getattr(fcot.metrics, export) for export in fcot.metrics.__all__)
    if isinstance(member, type) and issubclass(member, torchmetrics.Metric) and not inspect.isabstract(member)
]
OFFICIAL = json.loads((Path(__file__).parent / "metric_examples.json").read_text(encoding="utf-8"))

# Ten references per sample, as VQA accuracy needs them: right, wrong, partly right, and right again.
PREDICTIONS = ["cat", "dog", "green  tea", "12"]
REFERENCES = [["cat"] * 10, ["horse carriage"] * 10, ["green tea", *["green teas"] * 9], ["12"] * 10]


@pytest.fixture(params=METRICS, ids=lambda metric: metric.__name__)
def metric(request):
    return request.param()


def test_there_are_metrics_to_test():
    assert len(METRICS) >= 5


@pytest.mark.parametrize(
    "example", OFFICIAL, ids=[f"{index}-{example['metric']}" for index, example in enumerate(OFFICIAL)]
)
def test_official_scripts_agree(example):
    metric = fcot.metrics.METRICS[example["metric"]]()
    metric.update([example["prediction"]], [example["references"]])
    assert metric.compute().item() == pytest.approx(example["score"], abs=1e-6)


def test_file_function_and_class_score_one_pair_alike(metric):
    name = Path(importlib.import_module(type(metric).__module__).__file__).stem
    function = getattr(importlib.import_module(f"fcot.metrics.{name}"), name)
    for prediction, references in zip(PREDICTIONS, REFERENCES, strict=True):
        assert function(prediction, references) == metric.score(prediction, references)


def test_right_answers_score_best(metric):
    metric.update(["cat", "12"], [["cat"] * 10, ["12"] * 10])
    right = metric.compute()
    metric.reset()
    metric.update(["cat", "horse carriage"], [["cat"] * 10, ["12"] * 10])
    wrong = metric.compute()
    assert right == (1.0 if metric.higher_is_better else 0.0)
    assert (right > wrong) == metric.higher_is_better


def test_one_reference_is_enough(metric):
    metric.update(["cat"], [["cat"]])
    assert metric.compute() == (1.0 if metric.higher_is_better else 0.0)


def test_keeps_the_score_of_each_sample(metric):
    metric.update(PREDICTIONS[:3], REFERENCES[:3])
    metric.update(PREDICTIONS[3:], REFERENCES[3:])
    expected = [metric.score(*pair) for pair in zip(PREDICTIONS, REFERENCES, strict=True)]
    assert metric.sample_scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_batches_do_not_matter(metric):
    metric.update(PREDICTIONS, REFERENCES)
    at_once = metric.compute()
    metric.reset()
    for prediction, references in zip(PREDICTIONS, REFERENCES, strict=True):
        batch = metric([prediction], [references])
        assert batch == pytest.approx(metric.score(prediction, references))
    assert metric.compute() == pytest.approx(at_once.item())


def test_merges_with_a_later_part(metric):
    later = type(metric)()
    metric.update(PREDICTIONS[:1], REFERENCES[:1])
    later.update(PREDICTIONS[1:], REFERENCES[1:])
    later.merge_state(metric)
    metric.update(PREDICTIONS[1:], REFERENCES[1:])
    assert later.compute() == metric.compute()
    assert torch.equal(later.sample_scores, metric.sample_scores)


@pytest.mark.parametrize("elsewhere", [0, 1, 4], ids=lambda count: f"{count} samples on the other rank")
def test_gathers_uneven_processes(metric, elsewhere):
    # The other process has seen the first samples of this one.
    gathered = type(metric)(
        dist_sync_fn=lambda state, group: [state, state[:elsewhere]], distributed_available_fn=lambda: True
    )
    gathered.update(PREDICTIONS, REFERENCES)
    metric.update(PREDICTIONS + PREDICTIONS[:elsewhere], REFERENCES + REFERENCES[:elsewhere])
    assert gathered.compute() == pytest.approx(metric.compute().item())
    assert len(gathered.sample_scores) == len(PREDICTIONS)  # its own samples are back afterwards


def test_a_process_without_samples_joins_the_gathering(metric):
    scores = torch.tensor([1.0, 0.0])
    with metric.sync_context(dist_sync_fn=lambda state, group: [state, scores], distributed_available=lambda: True):
        assert torch.equal(metric.sample_scores, scores)


def test_survives_pickling(metric):
    metric.update(PREDICTIONS, REFERENCES)
    assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_samples_give_nan(metric):
    assert math.isnan(metric.compute())
    metric.update([], [])
    assert math.isnan(metric.compute())
    assert metric.sample_scores.shape == (0,)


def test_empty_strings_are_answers(metric):
    metric.update(["", "", "cat"], [[""] * 10, ["cat"] * 10, [""] * 10])
    assert torch.isfinite(metric.sample_scores).all()
    assert math.isfinite(metric.compute())


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a", "b"], [["a"]], "2 predictions but 1 lists"),
        (["a", "b"], [["a"], []], "Sample 1 has no reference"),
        (["a", "b"], [["a"], "bat"], "references of sample 1 are the single string 'bat'"),
        ("ab", [["a"], ["b"]], "predictions are the single string 'ab'"),
    ],
)
def test_unpaired_samples_are_refused(metric, predictions, references, message):
    metric.update(["cat"], [["cat"]])
    with pytest.raises(ValueError, match=re.escape(message)):
        metric.update(predictions, references)
    assert len(metric.sample_scores) == 1


def test_metric_is_an_answer_metric(metric):
    assert isinstance(metric, AnswerMetric)
    assert isinstance(metric.higher_is_better, bool)
