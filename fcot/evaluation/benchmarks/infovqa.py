"""InfographicVQA (Mathew et al., arXiv 2104.12756)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from fcot.evaluation.benchmarks.benchmark import Benchmark
from fcot.evaluation.benchmarks.document_vqa import DocumentVQA
from fcot.evaluation.layouts.find import hub


class Infovqa(DocumentVQA, Benchmark):
    """Questions on infographics."""

    title = "InfoVQA"
    splits: ClassVar[Mapping[str, int]] = {"val": 2801, "test": 3288}
    max_tiles = 24
    fetch = "Fetch it: hf download lmms-lab/DocVQA --repo-type dataset --include 'Info*' --local-dir ROOT/DocVQA"
    folders = ("infographicsvqa_images",)
    image_key = "image_local_name"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "val": {
            "official": (r"infographicsvqa_qas/infographicsVQA_val_v1\.0_withQT\.json",),
            "internvl": (r"infographicsvqa/val\.jsonl",),
            "parquet": (hub("DocVQA", "InfographicVQA", "validation"),),
            "tsv": (r"InfoVQA_VAL(?:_local)?\.tsv",),
        },
        "test": {
            "official": (r"infographicsvqa_qas/infographicsVQA_test_v1\.0\.json",),
            "internvl": (r"infographicsvqa/test\.jsonl",),
            "parquet": (hub("DocVQA", "InfographicVQA", "test"),),
        },
    }
