"""An invented benchmark whose scores are written in the answers, and models that answer it."""

from fcot.evaluation.benchmarks import Benchmark
from fcot.evaluation.results.tested import TestedModel, TestedSet
from fcot.evaluation.rows import Answer, Row


class InventedSet(Benchmark):
    """An answer says its scores: "0.5", "0.5 1" (the second by the definition), "?" (needs a judge), "-" (ignored)."""

    title, splits, licence, fetch = "Invented", {"test": 4, "other": 4}, "", ""
    max_tiles, max_new_tokens = 6, 8

    def prompt(self, row, protocol="internvl2"):
        return row.question

    def score(self, row, answer):
        first, *second = [None if word == "?" else float(word) for word in answer.replace("-", "0").split()]
        return {"internvl2": first, "definition": second[0] if second else first}

    def ignores(self, row, answer):
        return answer == "-"


def answered(*answers, whole=True, split="test", groups=None, references=None, **fields):
    """A set of a row for each answer; `fields` are lists of the answers' other fields."""
    rows, said = [], {}
    for number, text in enumerate(answers):
        key = str(number)
        accepted = references[number] if references else ("x",)
        rows.append(Row(key, (), "?", accepted, group=groups[number] if groups else ""))
        more = {name: values[number] for name, values in fields.items()}
        said[key] = Answer(key, text, **more)
    return TestedSet.of(InventedSet(), split, whole, rows, said)


def model(label, *sets):
    """A model with these sets."""
    return TestedModel(label, 1, sets)
