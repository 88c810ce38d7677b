"""The verb `bench rates`: how fast a device multiplies, attends and copies, the limits of all else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fcot.bench.flops import attention_forward
from fcot.bench.measure import Product, Timing, on_accelerator, timed_in_turn
from fcot.bench.output import Table, publish
from fcot.bench.picture import Bars
from fcot.bench.workload import find_device, model_folder
from fcot.internvl.checkpoint import ModelFolder

TERA, GIGA = 1e12, 1e9


def rates(
    model: str = "8b",
    tiles: int = 13,
    tokens: int = 3408,
    copy_bytes: int | None = None,
    device: str | None = None,
    repeats: int = 10,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Measure matrix products, copies, and the attention and MLPs of a model's shapes, one kernel at a time.

    What a step or an answer can reach is bounded by these; `bench step` and `bench infer` compare with the large
    product alone.

    Args:
        model: Size (100m, 1b, 2b, 8b) or a model folder, whose shapes are taken.
        tiles: Tiles that the vision tower sees together.
        tokens: Tokens that the language model reads.
        copy_bytes: Bytes that are copied (default: 4 GiB on an accelerator, else 256 MiB).
        device: Such as cpu (default: this machine's accelerator, or its CPU).
        repeats: How often each is timed.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.
    """
    place = find_device(device)
    dtype = torch.bfloat16 if on_accelerator(place) else torch.float32
    size = copy_bytes or (2**32 if on_accelerator(place) else 2**28)
    with model_folder(model) as folder:
        config = ModelFolder(folder).config
    works = {**products(config, tiles, tokens, place, dtype), "copy": copying(size, place)}
    with torch.no_grad():
        spent = timed_in_turn([work for work, _ in works.values()], place, repeats)
    found: dict[str, Any] = {
        "bench": "rates",
        "model": model,
        "tiles": tiles,
        "tokens": tokens,
        "device": str(place),
        "precision": "bf16" if dtype == torch.bfloat16 else "fp32",
        "rates": {},
    }
    for (name, (_, amount)), times in zip(works.items(), spent, strict=True):
        unit, scale = ("GB/s", GIGA) if name == "copy" else ("TFLOP/s", TERA)
        found["rates"][name] = {
            "rate": amount / scale / min(times),
            "unit": unit,
            "seconds": Timing.of(times).json(),
        }
    rows = [
        [name, f"{each['rate']:,.3g} {each['unit']}", str(Timing(**each["seconds"]))]
        for name, each in found["rates"].items()
    ]
    title = f"shapes of {model}, {tiles} tiles, {tokens:,} tokens, {found['precision']}"
    columns = ("work", "rate of the fastest run", f"time, median of {repeats}")
    flops = {name: {"rate": each["rate"]} for name, each in found["rates"].items() if name != "copy"}
    publish(found, [Table(title, columns, rows)], json, plot=plot, panels=[Bars("TFLOP/s", flops)])


def products(
    config: Any, tiles: int, tokens: int, device: torch.device, dtype: torch.dtype
) -> dict[str, tuple[Callable[[], Any], float]]:
    """Return the large product, and the MLP and attention of tower and language model, each with its FLOPs."""
    vision, language = config.vision_config, config.text_config
    patches = (vision.image_size[0] // vision.patch_size[0]) ** 2 + 1
    large = Product(device, dtype)
    width = language.hidden_size // language.num_attention_heads
    return {
        "large product": (large, large.flops),
        "tower MLP": mlp(tiles * patches, vision.hidden_size, vision.intermediate_size, device, dtype),
        "tower attention": attending(
            (tiles, vision.num_attention_heads, patches, vision.hidden_size // vision.num_attention_heads),
            vision.num_attention_heads,
            False,
            device,
            dtype,
        ),
        "language MLP": mlp(tokens, language.hidden_size, language.intermediate_size, device, dtype),
        "language attention": attending(
            (1, language.num_attention_heads, tokens, width), language.num_key_value_heads, True, device, dtype
        ),
    }


def mlp(
    rows: int, width: int, inner: int, device: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], Tensor], float]:
    """Return a product up and one down, and their FLOPs."""
    given, up, down = (
        torch.randn(*shape, device=device).to(dtype) for shape in ((rows, width), (width, inner), (inner, width))
    )
    return (lambda: given @ up @ down), 4.0 * rows * width * inner


def attending(
    shape: tuple[int, int, int, int], key_heads: int, causal: bool, device: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], Tensor], float]:
    """Return fused attention, and its FLOPs without masked pairs."""
    query = torch.randn(*shape, device=device).to(dtype)
    key, value = (torch.randn(shape[0], key_heads, *shape[2:], device=device).to(dtype) for _ in range(2))

    def attend() -> Tensor:
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=causal, enable_gqa=key_heads != shape[1]
        )

    return attend, float(attention_forward(shape, shape, shape, causal=causal))


def copying(size: int, device: torch.device) -> tuple[Callable[[], Tensor], float]:
    """Return a copy on the device, and the bytes that it reads and writes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return (lambda: target.copy_(source)), 2.0 * size
