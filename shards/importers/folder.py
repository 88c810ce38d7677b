"""A folder of images, each beside a text file with what it says."""

from collections.abc import Mapping
from pathlib import Path

from fcot.internvl.tokens import SampleError
from shards.feed.decode import is_image
from shards.importers.importer import ImportedSample, asked, imported, read_bounded
from shards.importers.registry import IMPORTERS

QUESTION = "Read the text."


class FolderImporter:
    """Imports `NAME.jpg` (png, webp) with `NAME.txt`, in subfolders too.

    Args:
        source: The folder.
        question: What is asked of each image.
        task: Task of all samples.
    """

    def __init__(self, source: Path, question: str, task: str) -> None:
        self.repeat_time: Mapping[str, float] = {}
        self.source, self.question, self.task = source, question, task
        self.files = sorted(path for path in source.rglob("*") if is_image(path.name) and path.is_file())

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, index: int) -> ImportedSample:
        """Return a sample."""
        path = self.files[index]
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise SampleError("missing_text", f"{path} has no {text.name} beside it")
        try:
            answer = read_bounded(text).decode()
        except UnicodeDecodeError as error:
            raise SampleError("bad_text", f"{text} is no UTF-8: {error}") from error
        source = str(path.parent.relative_to(self.source))
        images = [(path.name, read_bounded(path))]
        return imported(asked(self.question, answer.strip()), images, task=self.task, source=source)


@IMPORTERS.add
def folder(source: Path, *, question: str | None = None, task: str | None = None) -> FolderImporter:
    """Import images, each with a text file: see `FolderImporter`."""
    return FolderImporter(source, question or QUESTION, task or "text")
