"""The thirty types of OCRBench v2: ability, number of rows, rule."""

from dataclasses import dataclass

RECOGNITION, DETECTION, SPOTTING = "text_recognition", "text_detection", "text_spotting"
RELATIONS, PARSING, CALCULATION = "relationship_extraction", "element_parsing", "mathematical_calculation"
UNDERSTANDING, REASONING = "visual_text_understanding", "knowledge_reasoning"
ENGLISH = (RECOGNITION, DETECTION, SPOTTING, RELATIONS, PARSING, CALCULATION, UNDERSTANDING, REASONING)
CHINESE = (RECOGNITION, RELATIONS, PARSING, UNDERSTANDING, REASONING)


@dataclass(frozen=True)
class Kind:
    """A type of question.

    Attributes:
        ability: Which of the abilities it measures.
        rows: How many there are.
        rule: How it is scored.
    """

    ability: str
    rows: int
    rule: str


KINDS = {
    "text recognition en": Kind(RECOGNITION, 800, "vqa"),
    "fine-grained text recognition en": Kind(RECOGNITION, 200, "long, zero for blank"),
    "full-page OCR en": Kind(RECOGNITION, 200, "long, zero for blank"),
    "text grounding en": Kind(DETECTION, 200, "box"),
    "VQA with position en": Kind(DETECTION, 300, "vqa with position"),
    "text spotting en": Kind(SPOTTING, 200, "spotting"),
    "key information extraction en": Kind(RELATIONS, 400, "values"),
    "key information mapping en": Kind(RELATIONS, 300, "values"),
    "document parsing en": Kind(PARSING, 400, "document"),
    "chart parsing en": Kind(PARSING, 400, "chart"),
    "table parsing en": Kind(PARSING, 400, "table"),
    "formula recognition en": Kind(PARSING, 400, "formula"),
    "math QA en": Kind(CALCULATION, 300, "vqa"),
    "text counting en": Kind(CALCULATION, 200, "count"),
    "document classification en": Kind(UNDERSTANDING, 200, "vqa"),
    "cognition VQA en": Kind(UNDERSTANDING, 800, "vqa"),
    "diagram QA en": Kind(UNDERSTANDING, 300, "vqa"),
    "reasoning VQA en": Kind(REASONING, 600, "vqa"),
    "science QA en": Kind(REASONING, 300, "vqa"),
    "APP agent en": Kind(REASONING, 300, "vqa"),
    "ASCII art classification en": Kind(REASONING, 200, "vqa"),
    "full-page OCR cn": Kind(RECOGNITION, 200, "long"),
    "key information extraction cn": Kind(RELATIONS, 400, "values cn"),
    "handwritten answer extraction cn": Kind(RELATIONS, 200, "handwriting"),
    "document parsing cn": Kind(PARSING, 300, "document"),
    "table parsing cn": Kind(PARSING, 300, "table cn"),
    "formula recognition cn": Kind(PARSING, 200, "formula cn"),
    "cognition VQA cn": Kind(UNDERSTANDING, 200, "vqa cn"),
    "reasoning VQA cn": Kind(REASONING, 400, "vqa cn"),
    "text translation cn": Kind(REASONING, 400, "translation"),
}


def ability_of(kind: str) -> str:
    """Return which ability a type measures."""
    return KINDS[kind].ability


def language_of(kind: str) -> str:
    """Return "en" or "ch"."""
    return "en" if kind.endswith("en") else "ch"
