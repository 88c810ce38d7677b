"""Published scores: InternVL2's own, and those of FCoT-VL's Tables 1 and 2 (arXiv 2502.18512)."""

from collections.abc import Iterator
from dataclasses import dataclass

PAPER, INTERNVL2 = "FCoT-VL (arXiv 2502.18512)", "InternVL2 (evaluation.md)"


@dataclass(frozen=True)
class Published:
    """A published score.

    Attributes:
        model: Such as "InternVL2-2B".
        column: Name of the column.
        split: The split it is of.
        value: As `Column.value` counts.
        source: Who published it.
        scoring: The rule that counted; "" if a language model judged or it is not known.
        share: Of the visual tokens that are left, 1 for an uncompressed model.
    """

    model: str
    column: str
    split: str
    value: float
    source: str
    scoring: str = "internvl2"
    share: float = 1.0

    @property
    def label(self) -> str:
        """Such as "InternVL2-2B FCoT-VL 50%", which names one row of a paper's table."""
        return self.model if self.share == 1 else f"{self.model} {self.share:.0%}"


_COLUMNS = (
    ("docvqa", "val"), ("chartqa", "test"), ("textvqa", "val"), ("infovqa", "val"), ("ocrbench", "test"),
    ("ocrbench_v2_en", "test"), ("ocrbench_v2_ch", "test"), ("ai2d", "test"), ("mathvista", "testmini"),
    ("scienceqa", "test"),
)  # fmt: skip
_TABLE_1 = {
    ("InternVL2-2B", "", 1.0): "85.90 76.24 73.36 57.66 78.4 35.7 34.5 74.09 46.30 94.25",
    ("InternVL2-2B", "FastV", 0.5): "79.39 69.72 73.15 47.18 73.3 33.2 26.1 - - -",
    ("InternVL2-2B", "FastV", 0.25): "60.12 60.76 70.3 35.82 64.3 29.0 19.8 - - -",
    ("InternVL2-2B", "FCoT-VL", 0.5): "86.21 78.46 72.90 56.01 80.2 35.6 34.8 85.80 58.96 90.68",
    ("InternVL2-2B", "FCoT-VL", 0.25): "83.60 75.84 72.37 52.52 81.2 33.5 34.4 84.20 52.90 91.72",
    ("InternVL2-8B", "", 1.0): "91.6 83.3 77.4 74.8 79.4 39.6 36.3 83.77 58.3 97.22",
    ("InternVL2-8B", "FastV", 0.5): "85.25 79.5 77.61 60.9 76.1 36.8 26.4 - - -",
    ("InternVL2-8B", "FastV", 0.25): "67.52 73.52 74.65 46.06 68.1 28.7 21.2 - - -",
    ("InternVL2-8B", "FCoT-VL", 0.5): "91.88 85.52 78.95 71.71 83.9 42.1 40.1 93.80 63.3 95.14",
    ("InternVL2-8B", "FCoT-VL", 0.25): "89.91 84.16 77.80 67.11 82.0 41.8 36.7 93.48 62.00 93.40",
}
_TABLE_2_MME = {1.0: 1440.0, 0.5: 1355.0, 0.25: 1215.0}  # perception alone; re-aligned 2B
_ON_A_SERVER = {"docvqa", "infovqa"}  # the paper's 8B baselines are test-server scores; its own are not said to be
_JUDGED = {"mathvista"}  # a language model extracted the answers
_UNKNOWN = {"ocrbench_v2_en", "ocrbench_v2_ch", "scienceqa"}  # nobody says by which rule or toolkit
_OWN = {
    "InternVL2-2B": {
        ("docvqa", "val"): 85.90, ("docvqa", "test"): 86.90, ("infovqa", "val"): 57.66, ("infovqa", "test"): 58.90,
        ("chartqa", "test"): 76.24, ("textvqa", "val"): 73.356, ("ocrbench", "test"): 78.4, ("ai2d", "test"): 74.0933,
        ("mathvista", "testmini"): 46.4, ("mme_perception", "test"): 1439.67, ("mme_cognition", "test"): 437.14,
    },
    "InternVL2-8B": {
        ("docvqa", "val"): 90.81, ("docvqa", "test"): 91.60, ("infovqa", "val"): 72.60, ("infovqa", "test"): 74.80,
        ("chartqa", "test"): 83.28, ("textvqa", "val"): 77.374, ("ocrbench", "test"): 79.4, ("ai2d", "test"): 83.7759,
        ("mathvista", "testmini"): 58.3, ("mme_perception", "test"): 1648.13, ("mme_cognition", "test"): 562.14,
    },
}  # fmt: skip


def published() -> Iterator[Published]:
    """Yield every published score."""
    for model, own in _OWN.items():
        for (column, split), value in own.items():
            yield Published(model, column, split, value, INTERNVL2, _scoring(column))
    for (model, method, share), line in _TABLE_1.items():
        for (column, split), cell in zip(_COLUMNS, line.split(), strict=True):
            if cell != "-":
                server = column in _ON_A_SERVER and model == "InternVL2-8B" and not method
                named = f"{model} {method}".strip()
                yield Published(named, column, "test" if server else split, float(cell), PAPER, _scoring(column), share)
    for share, value in _TABLE_2_MME.items():
        named = "InternVL2-2B" if share == 1 else "InternVL2-2B FCoT-VL re-aligned"
        yield Published(named, "mme_perception", "test", value, PAPER, share=share)


def _scoring(column: str) -> str:
    return "" if column in _JUDGED | _UNKNOWN else "internvl2"
