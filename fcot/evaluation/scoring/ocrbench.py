"""The five groups of OCRBench's ten types (Liu et al., arXiv 2305.07895)."""

RECOGNITION, SCENE, DOCUMENT = "Text Recognition", "Scene Text-centric VQA", "Doc-oriented VQA"
EXTRACTION, FORMULA = "Key Information Extraction", "Handwritten Mathematical Expression Recognition"
GROUPS = (RECOGNITION, SCENE, DOCUMENT, EXTRACTION, FORMULA)  # six kinds of recognition are one


def group_of(kind: str) -> str:
    """Return which of the five groups a type of OCRBench belongs to."""
    return kind if kind in GROUPS else RECOGNITION
