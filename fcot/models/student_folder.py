"""Save a student as a model folder, and load one."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    InternVLForConditionalGeneration,
)

from fcot.files.json_files import read_optional, write_json
from fcot.files.weights import SINGLE_FILE, write_weights
from fcot.internvl.checkpoint import NESTED, PROCESSOR_FILE, ModelFolder, image_settings
from fcot.internvl.video_token import mend_video_token
from fcot.models.student import CompressedInternVL  # noqa: F401 - registers the student with transformers's Auto classes
from fcot.models.token_counts import TokenCounts, compressor_settings
from fcot.models.weight_checks import require_parts

OF_ANOTHER_MODEL = ("config", "model", "merge.json")  # files whose names start so are not copied


def save_student(
    model: InternVLForConditionalGeneration,
    folder: Path,
    source: Path,
    weights: Mapping[str, Tensor] | None = None,
    *,
    max_tiles: int | None = None,
) -> None:
    """Write a complete model folder: weights, configuration, tokenizer and preprocessing.

    Args:
        model: The student (or a native InternVL).
        folder: Where to write; created if missing.
        source: Folder from which tokenizer, preprocessing and generation files are copied.
        weights: Weights to save in place of the model's, by the names of its `state_dict`.
        max_tiles: Most tiles of an image in training (default: as in the source's files).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".jinja", ".model", ".txt") and not file.name.startswith(OF_ANOTHER_MODEL):
            shutil.copyfile(file, folder / file.name)
    mend_video_token(folder)
    model.config.save_pretrained(folder)
    _write_token_count(folder / PROCESSOR_FILE, model.config)
    if max_tiles:
        _write_max_tiles(folder, max_tiles)
    tensors = (model.state_dict() if weights is None else weights).items()
    write_weights(folder / SINGLE_FILE, ((name, tensor.cpu()) for name, tensor in tensors), max_shard_bytes=sys.maxsize)


def _write_token_count(file: Path, config: Any) -> None:
    """Write the number of visual tokens of a tile for transformers' processor, which otherwise assumes 256."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"processor_class": "InternVLProcessor"}
    file.write_text(json.dumps({**known, **said_of_tokens(config)}, indent=2) + "\n", encoding="utf-8")


def said_of_tokens(config: Any) -> dict[str, Any]:
    """Return a processor's settings of visual tokens: number per tile, compressor where tiles differ, and router."""
    counts = TokenCounts(config)
    told: dict[str, Any] = {"image_seq_length": counts.most}
    if counts.varies:
        told["compressor"] = compressor_settings(config)
    if getattr(config, "router", None):
        told["router"] = config.router
    return told


def _write_max_tiles(folder: Path, most: int) -> None:
    """Write the most tiles of an image into the image settings, unless they already have this number."""
    name, settings = image_settings(folder)
    if settings.get("max_patches") == most:
        return
    changed = {**settings, "max_patches": most}
    if name == PROCESSOR_FILE:
        changed = {**read_optional(folder / name), NESTED: changed}
    write_json(folder / name, changed)


def load_student(path: Path | str, **kwargs: Any) -> InternVLForConditionalGeneration:
    """Load a model folder, compressed or native, from disk alone, without running code in it.

    Raises:
        UserError: If a tensor is missing, unknown or of another shape.
    """
    folder = ModelFolder(Path(path))
    require_parts(folder)
    return AutoModelForImageTextToText.from_pretrained(
        folder.path, local_files_only=True, trust_remote_code=False, **kwargs
    )
