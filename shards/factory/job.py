"""What a run makes, and where its files lie."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from fcot.errors import UserError
from shards.factory.journal import Journal
from shards.factory.kinds import Kind
from shards.factory.question import Question
from shards.factory.requests import Request, Sampling, request_id
from shards.format.shard_set import ShardSet

JOB = "job.json"


@dataclass(frozen=True)
class Job:
    """A set that is made of another one.

    Attributes:
        source: The set that is read.
        output: The set that is written; the responses lie beside it, in `OUTPUT.journal`, and stay there.
        kind: What is made.
        sampling: How texts are drawn.
        identity: What the texts depend on of the generator.
        limit: Only so many first samples of the source; None for all.
    """

    source: ShardSet
    output: Path
    kind: Kind
    sampling: Sampling
    identity: str
    limit: int | None = None

    @property
    def folder(self) -> Path:
        """Where the responses lie."""
        return journal_folder(self.output)

    @property
    def shards(self) -> int:
        """How many shards of the source are read."""
        if self.limit is None:
            return len(self.source.paths)
        return sum(int(first) < self.limit for first in self.source.first[:-1])

    def journal(self, shard: int) -> Journal:
        """Return the journal of a source shard."""
        return Journal(self.folder / f"responses-{shard:06d}.jsonl")

    def lock(self, shard: int) -> Path:
        """Return the file that the process locks that asks for a source shard."""
        return self.folder / f"responses-{shard:06d}.lock"

    def requests(self, question: Question) -> Iterator[Request]:
        """Yield the requests about a question; pictures are read and made only where they are used."""
        for number, turns in enumerate(self.kind.prompts(question)):
            yield self._request(question, turns, number, self.kind.images(question, number))

    def ids(self, question: Question) -> list[str]:
        """Return the ids of the requests about a question."""
        return [
            self._request(question, turns, number, ()).id for number, turns in enumerate(self.kind.prompts(question))
        ]

    def _request(
        self, question: Question, turns: Sequence[Mapping[str, str]], number: int, images: Sequence[tuple[str, bytes]]
    ) -> Request:
        sampling = self.kind.sampling(self.sampling, number)
        name = request_id(
            set=self.source.manifest_hash,
            shard=self.source.paths[question.shard].name,
            key=question.key,
            kind=self.kind.name,
            turns=[dict(turn) for turn in turns],
            generator=self.identity,
            sampling=asdict(sampling),
            sample=number,
        )
        return Request(name, question.key, turns, images, sampling)

    def save(self, how: Mapping[str, Any]) -> None:
        """Write what the responses are made with, so that they can be judged again.

        Args:
            how: Arguments of the kind.

        Raises:
            UserError: If the folder cannot be written.
        """
        told = {
            "source": str(self.source.source),
            "source_set": self.source.manifest_hash,
            "kind": self.kind.name,
            "arguments": dict(how),
            "sampling": asdict(self.sampling),
            "generator": self.identity,
            "limit": self.limit,
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{JOB}.{uuid4().hex[:8]}.part"  # another process may start at the same moment
            part.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            part.replace(self.folder / JOB)
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written ({error}).\nGive another output folder.") from error

    @property
    def template_sha256(self) -> str:
        """Hash of the template."""
        return hashlib.sha256(self.kind.template.encode()).hexdigest()


def journal_folder(output: Path) -> Path:
    """Return where the responses of a set lie."""
    return output.with_name(f"{output.name}.journal")
