"""The token that stands for a video in a tokenizer, which transformers' InternVLProcessor cannot be made without.

It must be no image token: vLLM measures memory with a prompt of one video, and an image token in it is looked up among
images that are not there. The model needs no embedding for it, as a processor writes images, one a frame, in its place.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fcot.files.json_files import read_optional, write_json
from fcot.internvl.tokens import CONTEXT

VIDEO_TOKEN, MODEL_SPECIFIC = "video_token", "model_specific_special_tokens"
# The first two are for videos; the others InternVL2's tokenizers have for marking places, which text hardly ever has.
CANDIDATES = ("<video>", "<|video_pad|>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")


def video_token(specials: Collection[str], named: Mapping[str, Any]) -> str:
    """Return the token to stand for videos: one that the vocabulary has already, so that no embedding is added.

    Args:
        specials: Special tokens of the vocabulary.
        named: Those with a role, such as `pad_token`; padding or the unknown token serves where there is no better one.
    """
    spare = [
        named[role] for role in ("pad_token", "unk_token") if named.get(role) not in (None, named.get("eos_token"))
    ]
    return next((str(token) for token in (*CANDIDATES, *spare) if token in specials), CONTEXT)


def mended_settings(folder: Path) -> dict[str, Any]:
    """Return what to change in a folder's `tokenizer_config.json`, nothing if its video token is no image token.

    fcot 0.1.0 converted folders with the image placeholder in that place.
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
    """Write a video token that is no image token into a folder's tokenizer settings, if they have such a one."""
    if changes := mended_settings(folder):
        file = folder / "tokenizer_config.json"
        write_json(file, {**read_optional(file), **changes})
