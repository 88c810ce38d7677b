"""The pages that answers were given to, from the shards they were read from."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from fcot.errors import UserError
from fcot.evaluation.records import Record
from fcot.internvl.tiling import to_rgb
from fcot.report.runs import TestedModel, setting, settings_of, trainings

IMAGES, FORMATS = ("png", "jpg", "jpeg", "webp"), ("PNG", "JPEG", "WEBP")


def find_pages(
    data: Path | None, run: Path, scored: Sequence[TestedModel], records: Sequence[Record]
) -> dict[str, Image.Image]:
    """Return the page of each record by its key; {} if the shards are not known or gone.

    A key such as 00000012 occurs in every set, so a set counts only if its samples have the records' answers.

    Args:
        data: Folder of the sets, or None for those that the configurations in the run name.
        run: Folder of the run.
        scored: The tested models, whose configurations are asked first.
        records: Answers to the pages that are wanted.

    Raises:
        UserError: If `data` is given and does not hold the pages.
    """
    split = str(scored[0].row["split"])
    wanted = {record.key: record.references for record in records}
    for root in [data] if data else roots(run, scored):
        pages = read_pages(sorted((root / split).glob("*.tar")), wanted)
        if len(pages) == len(wanted):
            return pages
    if data:
        raise UserError(
            f"The {split} shards in {str(data)!r} do not hold the pages that were tested, {next(iter(wanted))!r} "
            f"for one.\nGive the --data.root of the tests, the folder that has the folder {split!r}."
        )
    return {}


def roots(run: Path, scored: Sequence[TestedModel]) -> Iterable[Path]:
    """Return the folders of sets that configurations name, those of the tests first."""
    folders = [*(model.folder for model in scored), *(path.parent for path in trainings(run).values())]
    named = (setting(settings_of(folder), "data", "root") for folder in folders)
    return dict.fromkeys(Path(root) for root in named if root)


def read_pages(shards: Iterable[Path], wanted: Mapping[str, Sequence[str]]) -> dict[str, Image.Image]:
    """Return the first image of each wanted sample whose answers are those wanted; what cannot be read is left out.

    Args:
        shards: Tar files in webdataset form.
        wanted: Accepted answers by key.
    """
    found: dict[str, Image.Image] = {}
    for shard in shards:
        images: dict[str, bytes] = {}
        right: set[str] = set()
        try:
            with tarfile.open(shard) as tar:
                for member in tar:
                    folder, slash, name = member.name.rpartition("/")
                    stem, _, extension = name.partition(".")
                    key = folder + slash + stem
                    if key not in wanted or not (content := tar.extractfile(member)):
                        continue
                    if extension == "json" and answers(content.read()) == list(wanted[key]):
                        right.add(key)
                    elif extension.rpartition(".")[2].lower() in IMAGES:
                        images.setdefault(key, content.read())
        except (tarfile.TarError, OSError, EOFError):
            pass  # damaged since: what was read of it before counts
        for key in right & images.keys() - found.keys():
            with suppress(OSError, ValueError, Image.DecompressionBombError):
                found[key] = to_rgb(Image.open(io.BytesIO(images[key]), formats=FORMATS))
        if found.keys() >= wanted.keys():
            break
    return found


def answers(member: bytes) -> list[str]:
    """Return the accepted answers of a sample's JSON member, [] if it has none."""
    try:
        record = json.loads(member)
        return [str(text) for text in record.get("references") or [record["conversations"][-1]["value"]]]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []
