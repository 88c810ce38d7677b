"""MME (Fu et al., arXiv 2306.13394)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from fcot.errors import UserError
from fcot.evaluation.benchmarks.benchmark import SHORT, Benchmark, Column, Source, lacking
from fcot.evaluation.layouts.find import hub
from fcot.evaluation.layouts.json_rows import picture_file
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import tsv_rows
from fcot.evaluation.rows import Answer, Picture, Row, Scored
from fcot.evaluation.scoring.mme import COGNITION, PERCEPTION, internvl_answer, pair_score
from fcot.metrics.yes_no import yes_or_no

ASKED = " Please answer yes or no."
PICTURES = (".png", ".jpg", ".jpeg")


class Mme(Benchmark):
    """Two yes-or-no questions on each picture, of fourteen categories; scores of categories are added."""

    title = "MME"
    splits: ClassVar[Mapping[str, int]] = {"test": 2374}
    max_tiles = 6
    max_new_tokens = 20
    min_new_tokens = 0
    licence = "none found; for research"
    fetch = "Fetch it: hf download lmms-lab/MME --repo-type dataset --local-dir ROOT/MME"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "test": {
            "official": (r"MME_Benchmark/[^/]+/(?:questions_answers_YN/)?[^/]+\.txt",),
            "internvl": (r"mme/Your_Results/[^/]+\.txt",),
            "parquet": (hub("MME", "data", "test"),),
            "tsv": (r"MME\.tsv",),
        }
    }

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the two questions of each picture's text file, beside it or in a folder of such files."""
        for file in sorted(source.files):
            apart = file.parent.name == "questions_answers_YN"
            folder = file.parents[1] / "images" if apart else file.parent
            category = (file.parents[1] if apart else file.parent).name
            image = _beside(folder, file.stem)
            for question, answer in _cells(file, 2):
                yield row_of(picture_file(image), question, answer, category, image.name)

    def internvl(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of InternVL's files, one for each category; pictures lie flat in folders of data/mme."""
        for file in sorted(source.files):
            folder = file.parents[3] / "data" / "mme" / "MME_Benchmark_release_version" / file.stem
            for name, question, answer in _cells(file, 3):
                yield row_of(picture_file(folder / name), question, answer, file.stem, name)

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files, whose ids are those of pictures."""
        for row, image in pictured_rows(source.files, "image"):
            name = row["question_id"].rpartition("/")[2]
            yield row_of(image, row["question"], row["answer"], row["category"], name)

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file."""
        (file,) = source.files
        for row, (image,) in tsv_rows(file):
            name = row["image_path"].rpartition("/")[2]
            yield row_of(image, row["question"], row["answer"], row["category"], name)

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the question with the instruction to be short."""
        if protocol == "lmms_eval":
            return f"{row.question.removesuffix(ASKED)}\n{SHORT}"
        return f"{row.question} {SHORT}"

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return whether the answer says yes or no rightly; InternVL reads Chinese, true and false first."""
        gold = row.references[0].lower()
        return {
            "internvl2": float(yes_or_no(internvl_answer(answer)) == gold),
            "definition": float(yes_or_no(answer) == gold),
        }

    def notes(self, rows: Sequence[Row], source: Source) -> list[str]:
        """Return warnings about categories without rows and pictures without two questions."""
        counts: dict[tuple[str, str], int] = {}
        for row in rows:
            key = (row.group, row.fields["picture"])
            counts[key] = counts.get(key, 0) + 1
        odd = [f"{category}/{picture}" for (category, picture), count in counts.items() if count != 2]
        pairs = [f"MME: {len(odd)} pictures do not have two questions, such as {odd[0]}"] if odd else []
        return lacking(self.title, (*PERCEPTION, *COGNITION), rows) + pairs

    def columns(self, scored: Sequence[Scored], scoring: str) -> list[Column]:
        """Return the sums over the categories of perception and of cognition; a unit is a picture."""
        right: dict[str, dict[str, list[bool]]] = {}
        for each in scored:
            category = right.setdefault(each.row.group, {})
            category.setdefault(each.row.fields["picture"], []).append(bool(each.scores[scoring]))
        found = []
        for part, names in (("perception", PERCEPTION), ("cognition", COGNITION)):
            units = {
                name: {picture: pair_score(pair) for picture, pair in right[name].items()}
                for name in names
                if name in right
            }
            if units:
                found.append(
                    Column(f"mme_{part}", f"MME {part}", units, scale=100.0 * len(units), in_average=False, parts=units)
                )
        return found

    def submission(self, rows: Sequence[Row], answers: Mapping[str, Answer], split: str) -> dict[str, str]:
        """Return the files that the official tool scores, one for each category; two lines in a row are a pair."""
        lines: dict[str, dict[str, list[str]]] = {}
        for row in rows:
            said = "".join(answers[row.id].text.splitlines()).replace("\t", " ")
            line = "\t".join([row.fields["picture"], row.question, row.references[0], said])
            lines.setdefault(row.group, {}).setdefault(row.fields["picture"], []).append(line)
        return {
            f"mme/{category}.txt": "".join(f"{line}\n" for pair in pictures.values() for line in pair)
            for category, pictures in lines.items()
        }


def row_of(image: Picture, question: str, answer: str, category: str, picture: str) -> Row:
    """Return a row; white space around the answer is none of it."""
    return Row("", (image,), question, (answer.strip(),), group=category, fields={"picture": picture})


def _cells(file: Path, count: int) -> Iterator[list[str]]:
    """Yield the cells of each line.

    Raises:
        UserError: If a line has another number of cells.
    """
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            cells = line.split("\t")
            if len(cells) != count:
                raise UserError(f"Line {number} of {file} has {len(cells)} cells, not {count}.\nFetch MME again.")
            yield cells


def _beside(folder: Path, stem: str) -> Path:
    """Return a picture of a name without its ending."""
    found = [folder / f"{stem}{ending}" for ending in PICTURES]
    return next((file for file in found if file.is_file()), found[0])
