"""What an answer costs up to its first token, counted on the meta device, and what fewer visual tokens can gain."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcot.bench.flops import counting
from fcot.bench.meter import ANSWER_PARTS, Meter, answer_parts
from fcot.bench.workload import Pages, random_pair
from fcot.models.spec import StudentSpec
from fcot.models.transformers_api import CACHE

MODEL_PARTS = ANSWER_PARTS[:-1]  # what the FLOP limit is about
TERA = 1e12


def count_all(
    folder: Path, ratios: list[int], tiles: int, prompt: int, questions: int = 1, compressor: str = "conv"
) -> dict[str, Any]:
    """Return the FLOPs at each ratio, and the most that they allow to gain over the first; arguments as in `count`."""
    flops = {ratio: count(folder, ratio, tiles, prompt, questions, compressor) for ratio in ratios}
    limits = {ratio: flops[ratios[0]]["total"] / counted["total"] for ratio, counted in flops.items()}
    return {"unit": "TFLOP", "flops": flops, "limits": limits}


def count(
    folder: Path, ratio: int, tiles: int, prompt: int, questions: int = 1, compressor: str = "conv"
) -> dict[str, Any]:
    """Return the TFLOP of the parts of an answer up to its first token, and a page's visual tokens and cache.

    Args:
        folder: Where the configuration is.
        ratio: How many visual tokens become one.
        tiles: Tiles of the page, at least one.
        prompt: Text tokens of a prompt.
        questions: Questions on the page; several share what comes before and with the visual tokens.
        compressor: Short name of the student's compressor.
    """
    spec = StudentSpec.of(compressor, ratio) if ratio > 1 else None
    pair = random_pair(folder, torch.device("meta"), torch.float32, spec=spec)
    config, model = pair.student.config, pair.student.model.language_model
    pages = Pages(tiles, prompt, 1).of({"student": config})
    ids = pages.sequences["student"].prompt_ids
    assert ids is not None
    shared = int((ids[0] == config.image_token_id).nonzero()[-1]) + 1 if questions > 1 else 0
    batch, ids = pages.to("meta"), ids.to("meta")
    with counting() as flops, torch.no_grad():
        meter = Meter(flops)
        with answer_parts(pair, meter):
            embeddings = pair.embed("student", batch, ids, pair.features(batch.tiles))
            cache: Any = None
            mask: Tensor | None = None
            if shared:
                cache = getattr(model(inputs_embeds=embeddings[:, :shared], use_cache=True), CACHE)
                cache.batch_repeat_interleave(questions)
                embeddings = embeddings[:, shared:].expand(questions, -1, -1)
                mask = torch.ones(1, 1, embeddings.shape[1], ids.shape[1], dtype=torch.bool, device="meta")
            hidden = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=True, **{CACHE: cache})[0]
            # as in generation, only the last row meets the head
            pair.student.lm_head(hidden[:, -1])
    text, (visual_tokens,) = config.text_config, pages.visual_tokens("student")
    width = text.num_key_value_heads * (text.hidden_size // text.num_attention_heads)
    return {
        "parts": {part: meter.parts.get(part, 0.0) / TERA for part in MODEL_PARTS},
        "total": sum(meter.parts.values()) / TERA,
        "visual_tokens": visual_tokens,
        "cache_bytes_bf16": 2 * 2 * text.num_hidden_layers * width * (visual_tokens + prompt),
    }
