"""fcot's models in the harnesses that people already trust: lmms-eval and VLMEvalKit."""

from typing import Any

TILES = {"docvqa": 18, "infovqa": 24, "chartqa": 12, "ocrbench": 24}  # of InternVL2's published scores; else 6
OTHER_TILES = 6


def tiles_of(task: str) -> int:
    """Return the most tiles of a picture under InternVL2's protocol, by the name that a harness gives a benchmark."""
    name = task.lower()
    return next((tiles for start, tiles in TILES.items() if name.startswith(start)), OTHER_TILES)


def lmms_manifest() -> Any:
    """Return what lmms-eval's entry point asks: where the class of the model `fcot` is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="fcot", chat_class_path=f"{__name__}.lmms_model.LmmsModel")
