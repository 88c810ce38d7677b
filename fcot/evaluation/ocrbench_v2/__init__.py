"""OCRBench v2's rules, one kind a file (Fu et al., arXiv 2501.00321)."""

from fcot.evaluation.ocrbench_v2.scores import Result, abilities, overall, score
from fcot.evaluation.ocrbench_v2.types import KINDS, ability_of, language_of

__all__ = ["KINDS", "Result", "abilities", "ability_of", "language_of", "overall", "score"]
