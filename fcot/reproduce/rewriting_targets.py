"""The same verified answers in three wordings: bare, in foreign words, and in the teacher's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.factory.questions import question_of
from shards.factory.verifiers.conclusion import concluded
from shards.factory.writing import Sample
from shards.format.shard_set import ShardSet
from shards.format.writer import write_set

ARMS = ("bare", "foreign", "own")
MARKER = "Answer: "


@dataclass
class Targets:
    """Gives the samples of a set in one wording.

    Attributes:
        source: The teacher's verified answers.
        arm: The wording.
    """

    source: ShardSet
    arm: str

    def __call__(self, number: int) -> Sample:
        """Return a sample."""
        question = question_of(self.source, number)
        turns = [*question.turns, {"from": "gpt", "value": worded(question.known.gold, self.arm)}]
        return Sample({**question.record, "conversations": turns}, question.pictures)


def write_targets(chains: Path, folder: Path, pages: Path) -> None:
    """Write the three sets; each has the dev and test pages beside its training pages.

    Args:
        chains: The teacher's verified answers.
        folder: A folder for each wording is made in it.
        pages: Where the sets `dev` and `test` lie.
    """
    source = ShardSet(chains)
    for arm in ARMS:
        train = folder / arm / "train"
        write_set(train, Targets(source, arm), len(source), describe={"wording": arm}, keep=True)
        for link, to in (
            (folder / arm / "dev", pages / "dev"),
            (folder / arm / "test", pages / "test"),
            (folder / arm / "as_dev" / "dev", train),
        ):
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(to.resolve(), target_is_directory=True)


def worded(chain: str, arm: str) -> str:
    """Return a chain of the tiny world in a wording.

    Args:
        chain: Rows as `name: value`, calculations, and the conclusion.
        arm: "bare" is the conclusion alone; "own" leaves it as it is; "foreign" says the same facts in sentences, the
            rows from last to first.
    """
    if arm == "own":
        return chain
    conclusion = f"{MARKER}{concluded(chain)}"
    if arm == "bare":
        return conclusion
    steps = [line for line in chain.splitlines() if line and not line.startswith(MARKER)]
    return "\n".join([*(sentence(line) for line in reversed(steps)), conclusion])


def sentence(line: str) -> str:
    """Return a line of a chain in other words, about as long."""
    if "=" in line:
        left, _, right = line.partition("=")
        return f"{right}={left}"
    name, colon, value = line.rpartition(": ")
    return f"{value} ({name})" if colon else line


def lengths(folder: Path) -> Mapping[str, Any]:
    """Return the median characters of each wording's answers, and their number."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        source = ShardSet(folder / arm / "train")
        sizes = sorted(len(question_of(source, number).known.gold) for number in source.usable().tolist())
        found[arm] = {"answers": len(sizes), "median_characters": sizes[len(sizes) // 2]}
    return found
