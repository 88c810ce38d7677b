"""A folder of images, each beside a text file with what it says."""

from collections.abc import Mapping
from pathlib import Path

from fcot.errors import SampleError
from shards.format.indexing import is_companion, split_name
from shards.importers.image_sources import read_bounded
from shards.importers.importer import ImportedSample, asked, imported
from shards.importers.pictures import READ
from shards.importers.registry import IMPORTERS

QUESTION = "Read the text."


def found_in(folder: Path, *suffixes: str, subfolders: bool = True) -> list[Path]:
    """Return the files of a folder whose names end so, in any case, without what a Mac writes beside files."""
    found = sorted(folder.rglob("*") if subfolders else folder.glob("*"))
    ours = (path for path in found if path.suffix.lower() in suffixes and path.is_file())
    return [path for path in ours if not is_companion(path.relative_to(folder).as_posix())]


class FolderImporter:
    """Imports `NAME.jpg` (png, webp, tif, bmp, gif) with `NAME.txt`, in subfolders too.

    A text may also share no more than what stands before the first dot, as `c.output.txt` does with `c.input.jpg`, if
    it is the only one.

    Args:
        source: The folder.
        question: What is asked of each image.
        task: Task of all samples.
    """

    def __init__(self, source: Path, question: str, task: str) -> None:
        self.repeat_time: Mapping[str, float] = {}
        self.source, self.question, self.task = source, question, task
        self.files = found_in(source, *(f".{extension}" for extension in READ))
        self.texts: dict[str, list[Path]] = {}
        for path in found_in(source, ".txt"):
            self.texts.setdefault(split_name(str(path))[0], []).append(path)

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, index: int) -> ImportedSample:
        """Return a sample."""
        path = self.files[index]
        text = self._text(path)
        try:
            answer = read_bounded(text).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SampleError("bad_text", f"{text} is no UTF-8: {error}") from error
        source = str(path.parent.relative_to(self.source))
        images = [(path.name, read_bounded(path))]
        return imported(asked(self.question, answer.strip()), images, task=self.task, source=source)

    def _text(self, image: Path) -> Path:
        """Return the text file of an image.

        Raises:
            SampleError: If there is none, or it is not plain which.
        """
        near = self.texts.get(split_name(str(image))[0], [])
        same = [path for path in near if path.stem == image.stem]
        if len(same or near) != 1:
            what = f"has no {image.stem}.txt" if not near else f"has {len(near)} text files"
            raise SampleError("ambiguous_text" if near else "missing_text", f"{image} {what} beside it")
        return (same or near)[0]


@IMPORTERS.add
def folder(source: Path, *, question: str | None = None, task: str | None = None) -> FolderImporter:
    """Import images, each with a text file: see `FolderImporter`."""
    return FolderImporter(source, question or QUESTION, task or "text")
