"""Importers from other formats, by the name that `fcot shards import` knows them by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shards.importers.folder import QUESTION, FolderImporter
from shards.importers.hf import HfImporter
from shards.importers.importer import Importer
from shards.importers.internvl import internvl
from shards.importers.llava import llava
from shards.importers.pdf import PdfImporter
from shards.importers.sharegpt import sharegpt


@dataclass(frozen=True)
class Settings:
    """What a user may say of an import.

    Attributes:
        images: Folder that images are named in.
        task: Task of the samples.
        question: What is asked of a page or image that has only its text.
        dpi: Pixels an inch of rendered pages.
    """

    images: Path | None = None
    task: str | None = None
    question: str | None = None
    dpi: int = 150


IMPORTERS: dict[str, Callable[[Path, Settings], Importer]] = {
    "internvl": lambda source, given: internvl(source, images=given.images, task=given.task),
    "llava": lambda source, given: llava(source, images=given.images, task=given.task),
    "sharegpt": lambda source, given: sharegpt(source, images=given.images, task=given.task),
    "hf": lambda source, given: HfImporter(source, given.images, given.task),
    "pdf": lambda source, given: PdfImporter(source, given.question or QUESTION, given.task or "text", given.dpi),
    "folder": lambda source, given: FolderImporter(source, given.question or QUESTION, given.task or "text"),
}
