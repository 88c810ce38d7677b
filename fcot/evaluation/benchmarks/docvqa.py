"""DocVQA (Mathew et al., arXiv 2007.00398)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from fcot.evaluation.benchmarks.benchmark import Benchmark
from fcot.evaluation.benchmarks.document_vqa import DocumentVQA
from fcot.evaluation.layouts.find import hub


class Docvqa(DocumentVQA, Benchmark):
    """Questions on pages of industry documents."""

    title = "DocVQA"
    splits: ClassVar[Mapping[str, int]] = {"val": 5349, "test": 5188}
    max_tiles = 18
    fetch = "Fetch it: hf download lmms-lab/DocVQA --repo-type dataset --include 'DocVQA/*' --local-dir ROOT/DocVQA"
    folders = ("spdocvqa_images", "documents")
    image_key = "image"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "val": {
            "official": (r"(?:spdocvqa_qas|val)/val_v1\.0(?:_withQT)?\.json",),
            "internvl": (r"docvqa/val\.jsonl",),
            "parquet": (hub("DocVQA", "DocVQA", "validation"),),
            "tsv": (r"DocVQA_VAL(?:_local)?\.tsv",),
        },
        "test": {
            "official": (r"(?:spdocvqa_qas|test)/test_v1\.0\.json",),
            "internvl": (r"docvqa/test\.jsonl",),
            "parquet": (hub("DocVQA", "DocVQA", "test"),),
        },
    }
