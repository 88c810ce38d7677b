"""The score of each page that a model was tested on."""

from pathlib import Path

from fcot.evaluation.records import read_records
from fcot.files.json_files import read_json

Scores = dict[str, list[float]]  # by task, in the order of the pages


def scores_by_page(folder: Path) -> dict[str, dict[str, float]]:
    """Return each task's scores by the metric that counts, by the pages' keys, in order.

    Args:
        folder: Where `fcot test` wrote `test.jsonl`.
    """
    found: dict[str, dict[str, float]] = {}
    for record in sorted(read_records(folder / "test.jsonl"), key=lambda record: (record.task, record.key)):
        found.setdefault(record.task, {})[record.key] = next(iter(record.scores.values()))
    return found


def scores_of(folder: Path) -> Scores:
    """Return each task's scores by the metric that counts, in the order of the pages' keys.

    Args:
        folder: Where `fcot test` wrote `test.jsonl`.
    """
    return {task: [*scores.values()] for task, scores in scores_by_page(folder).items()}


def benchmark_scores(folder: Path) -> Scores:
    """Return each benchmark's scores as shares of 1, in the order of its rows.

    A benchmark whose score is a mean over groups has its rows weighted so that their mean is that score. Those that are
    in no average (MME's sum of points) are left out.

    Args:
        folder: Where `fcot evaluate` wrote `scores.json`.
    """
    (model,) = read_json(folder / "scores.json").values()
    found = {}
    for name, column in model.items():
        if not column["in_average"]:
            continue
        groups = [list(units.values()) for units in column["units"].values()]
        number = sum(map(len, groups))
        found[name] = [
            score * column["scale"] / 100 * number / (len(groups) * len(group)) for group in groups for score in group
        ]
    return found


def benchmark_splits(folder: Path) -> str:
    """Return the splits of the benchmarks whose scores count, such as "splits docvqa val, chartqa test".

    Args:
        folder: Where `fcot evaluate` wrote `scores.json` and `results.json`.
    """
    columns = read_json(folder / "results.json")["columns"]
    return "splits " + ", ".join(f"{name} {columns[name]['split']}" for name in benchmark_scores(folder))
