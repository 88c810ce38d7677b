"""The teacher's own answers, as examples of its tone."""

from pathlib import Path

from fcot.errors import SampleError, UserError
from shards.factory.questions import question_of
from shards.format.shard_set import ShardSet

EXAMPLES = 3  # a task
LOOKED_AT = 300  # answers of a task that they are taken from


def examples_of(folder: Path) -> dict[str, list[str]]:
    """Return three answers of each task: those of the first, second and third quarter by length.

    Raises:
        UserError: If the set has no answers.
    """
    source = ShardSet(folder)
    texts: dict[str, list[str]] = {}
    names, of = source.names("task")
    for number in source.usable().tolist():
        if len(texts.setdefault(names[of[number]], [])) < LOOKED_AT:
            try:
                texts[names[of[number]]].append(question_of(source, number).known.gold)
            except SampleError:
                continue
    found = {}
    for task, golds in texts.items():
        ordered = sorted(set(golds), key=lambda text: (len(text), text))
        found[task] = (
            [ordered[len(ordered) * quarter // (EXAMPLES + 1)] for quarter in range(1, EXAMPLES + 1)] if golds else []
        )
    if not any(found.values()):
        raise UserError(
            f"{folder} holds no answers.\nGive a set of the teacher's own, such as `fcot data label` writes."
        )
    return found
