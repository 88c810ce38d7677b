"""A conversation in OpenAI's form."""

import base64
from typing import Any

from fcot.internvl.prompts import IMAGE
from shards.factory.requests import Request

MIME = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def messages(request: Request) -> list[dict[str, Any]]:
    """Return a conversation in OpenAI's form, each picture as a data URL in the place of its `<image>`."""
    pictures = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:{MIME[kind.lower()]};base64,{base64.b64encode(data).decode()}"},
        }
        for kind, data in request.images
    ]
    turns = [dict(turn) for turn in request.turns]
    if pictures and not any(IMAGE in turn["value"] for turn in turns):
        turns[0]["value"] = f"{IMAGE}\n" * len(pictures) + turns[0]["value"]
    found: list[dict[str, Any]] = []
    pending = iter(pictures)
    for turn in turns:
        role = {"human": "user", "gpt": "assistant"}.get(turn["from"], turn["from"])
        text = turn["value"]
        if role != "user" or not pictures:
            found.append({"role": role, "content": text})
            continue
        parts: list[dict[str, Any]] = []
        for number, piece in enumerate(text.split(IMAGE)):
            if number:
                parts.append(next(pending))
            if piece.strip():
                parts.append({"type": "text", "text": piece.strip("\n") if parts else piece})
        found.append({"role": role, "content": parts if any(part["type"] != "text" for part in parts) else text})
    return found
