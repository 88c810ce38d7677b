"""Importers from other formats, by the name that `fcot shards import` knows them by."""

from dataclasses import dataclass
from pathlib import Path

from shards.importers.folder import folder
from shards.importers.hf import hf
from shards.importers.internvl import internvl
from shards.importers.llava import llava
from shards.importers.pdf import pdf
from shards.importers.pdfa import pdfa
from shards.importers.registry import IMPORTERS
from shards.importers.sharegpt import sharegpt


@dataclass(frozen=True)
class Settings:
    """What a user may say of an import.

    Attributes:
        images: Folder that images are named in.
        task: Task of the samples.
        question: What is asked of a page or image that has only its text.
        dpi: Pixels an inch of rendered pages.
        markdown: Write tables as Markdown tables, where the format knows where words stand.
    """

    images: Path | None = None
    task: str | None = None
    question: str | None = None
    dpi: int = 150
    markdown: bool = False


__all__ = ["IMPORTERS", "Settings", "folder", "hf", "internvl", "llava", "pdf", "pdfa", "sharegpt"]
