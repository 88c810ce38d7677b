"""The tokenizer's video token, without which transformers' InternVLProcessor cannot be built.

It must not be the image token: vLLM measures memory with a prompt of one video, and would look for an image behind each
image token in it. The model needs no embedding for it, because the processor replaces it by one image a frame.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fcot.files.json_files import read_optional, write_json
from fcot.internvl.tokens import CONTEXT

VIDEO_TOKEN, MODEL_SPECIFIC = "video_token", "model_specific_special_tokens"
# The first two are for videos. InternVL2's tokenizers have the others for marking regions; text rarely contains them.
CANDIDATES = ("<video>", "<|video_pad|>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")


def video_token(specials: Collection[str], named: Mapping[str, Any]) -> str:
    """Choose a video token that the vocabulary already has, so that no embedding is added.

    Args:
        specials: Special tokens of the vocabulary.
        named: Those with a role, such as `pad_token`; padding or the unknown token is the last resort.
    """
    spare = [
        named[role] for role in ("pad_token", "unk_token") if named.get(role) not in (None, named.get("eos_token"))
    ]
    return next((str(token) for token in (*CANDIDATES, *spare) if token in specials), CONTEXT)


def mended_settings(folder: Path) -> dict[str, Any]:
    """Return the changes to a folder's `tokenizer_config.json`, empty unless its video token is the image token.

    fcot 0.1.0 converted folders with the image token as their video token.
    """
    settings = read_optional(folder / "tokenizer_config.json")
    specific = settings.get(MODEL_SPECIFIC)
    specific = specific if isinstance(specific, dict) else {}
    if CONTEXT not in (settings.get(VIDEO_TOKEN), specific.get(VIDEO_TOKEN)):
        return {}
    added = read_optional(folder / "tokenizer.json").get("added_tokens", [])
    found = video_token({token["content"] for token in added if token["special"]}, settings)
    if VIDEO_TOKEN in specific:
        return {VIDEO_TOKEN: found, MODEL_SPECIFIC: {**specific, VIDEO_TOKEN: found}}
    return {VIDEO_TOKEN: found}


def mend_video_token(folder: Path) -> None:
    """Replace the video token in a folder's tokenizer settings if it is the image token."""
    if changes := mended_settings(folder):
        file = folder / "tokenizer_config.json"
        write_json(file, {**read_optional(file), **changes})
