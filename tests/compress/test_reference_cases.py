"""Modules as published equal recorded outputs of their own code, and have its parameters and FLOPs at real sizes.

FCOT_CASES names another folder of cases with the same schema.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers.models.internvl.modeling_internvl import InternVLModel

from fcot.bench.flops import counting
from fcot.compress import make_compressor
from fcot.compress.c_abstractor import Abstractor
from fcot.compress.gated_pool import GatedPool
from fcot.compress.ldpv2 import Ldpv2Projector
from fcot.compress.llama_vid import LlamaVidProjector
from fcot.compress.m3_pool import m3_pooled
from fcot.compress.mqt import MatryoshkaQueries
from fcot.compress.sine_positions import sine_positions
from fcot.compress.texthawk2 import Texthawk2Resampler
from fcot.compress.token_packer import TokenPackerProjector
from fcot.compress.windows import raw_raster

FOLDER = Path(os.environ.get("FCOT_CASES") or Path(__file__).parent / "fixtures")


def cases(module):
    """The cases of a module: settings, weights by name, inputs and outputs by name."""
    file = FOLDER / f"{module}.json"
    if not file.is_file():
        return []
    known = json.loads(file.read_text(encoding="utf-8"))["cases"]
    tensors = load_file(file.with_suffix(".safetensors"))
    found = []
    for name, settings in known.items():
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        weights = {key.removeprefix("weight."): own[key] for key in own if key.startswith("weight.")}
        found.append(pytest.param(settings, weights, own, id=f"{module}-{name}"))
    return found


def loaded(module, weights, **renamed):
    """The module with weights, some parts of whose names are renamed; all must fit."""
    for old, new in renamed.items():
        weights = {key.replace(old.replace("__", "."), new): tensor for key, tensor in weights.items()}
    module.load_state_dict(weights)
    return module.eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_there_are_cases():
    for module in ("c_abstractor", "flash_connector", "ldpv2", "llama_vid", "m3_pool", "mqt"):
        assert cases(module), f"no {module} in {FOLDER}"


@pytest.mark.parametrize(("settings", "weights", "own"), cases("c_abstractor"))
def test_c_abstractor(settings, weights, own):
    module = Abstractor(
        settings["input_side"] ** 2,
        settings["encoder_width"],
        settings["hidden_width"],
        settings["output_width"],
        tuple(settings["pooled"]),
        depth=settings["depth"],
        mlp_depth=settings["mlp_depth"],
        prenorm=settings["prenorm"],
        eos_tokens=settings["eos_tokens"],
    )
    if not settings["pos_emb"]:
        weights = {**weights, "pos_emb": torch.zeros_like(module.pos_emb)}
    given = own["input"].clone()
    close(loaded(module, weights)(given), own["output"])
    assert torch.equal(given, own["input"]), "the caller's features changed"


@pytest.mark.parametrize(("settings", "weights", "own"), cases("ldpv2"))
def test_ldpv2(settings, weights, own):
    module = Ldpv2Projector(settings["input_width"], settings["output_width"], tuple(settings["pooled"]))
    names = {"mlp__mlp": "mlp", "peg__peg__0": "local.conv"}
    close(loaded(module, weights, **names)(own["input"]), own["output"])


@pytest.mark.parametrize(("settings", "weights", "own"), cases("llama_vid"))
def test_llama_vid(settings, weights, own):
    kind = settings["compress_type"]
    grid = None if kind is None else 1 if kind == "mean" else int(kind.removeprefix("grid:"))
    language_width, width = weights["vlm_att_val_projector.weight"].shape
    names = {"mm_projector": "mlp", "vlm_att_key_projector": "key", "vlm_att_val_projector": "value"}
    module = loaded(LlamaVidProjector(width, language_width, grid), weights, **names)
    close(module(own["input"], own["text_query"]), own["output"])


@pytest.mark.parametrize(("settings", "weights", "own"), cases("m3_pool"))
def test_m3_pool(settings, weights, own):
    for asked, given in zip(settings["asked"], settings["given"], strict=True):
        found = m3_pooled(own["input"], asked)
        assert found.shape[1] == given
        close(found, own[f"output_{asked}"])


@pytest.mark.parametrize(("settings", "weights", "own"), cases("mqt"))
def test_mqt(settings, weights, own):
    width, out = weights["proj"].shape
    close(sine_positions(width, settings["query_side"]).half().float(), weights.pop("pos_embed"))
    for kind in ("weight", "bias"):
        parts = weights.pop(f"attn.in_proj_{kind}").chunk(3)
        weights |= {f"attn.{name}.{kind}": part for name, part in zip(("query", "key", "value"), parts, strict=True)}
    module = MatryoshkaQueries(width, out, settings["query_side"], settings["heads"])
    module = loaded(module, weights, out_proj="output")
    for count in settings["counts"]:
        close(module(own["input"], count), own[f"output_{count}"])


@pytest.mark.parametrize(("settings", "weights", "own"), cases("flash_connector"))
def test_flash_connector(settings, weights, own):
    side, width = settings["raw_side"] // 2, settings["vision_width"]
    shuffled = InternVLModel.pixel_shuffle(None, own["input"]).flatten(1, 2)
    close(shuffled, own["unshuffled_half"])
    close(raw_raster(shuffled, side), own["input"])
    given = {"ratio": 4, "side": side, "width": 4 * width, "language_width": settings["language_width"]}
    module = make_compressor("unshuffle", **given)
    mlp2 = {key.removeprefix("mlp2."): tensor for key, tensor in weights.items() if key.startswith("mlp2.")}
    loaded(module.mlp, mlp2)
    close(module._unshuffled(module.grouped(shuffled)), own["unshuffled_quarter"])
    close(module.eval()(shuffled), own["output_mlp2"])


SIDE, PATCH, TOKEN, INNER = 16, 1024, 4096, 1024
WIDTHS = {"1b": 896, "2b": 2048, "8b": 4096}


def in_the_seam(name, ratio, width, **given):
    """A compressor on the meta device and its input."""
    return make_compressor(name, ratio=ratio, side=SIDE, width=width, **given), [torch.empty(1, SIDE**2, width)]


def real(name, language_width):
    """The module that an entry of the counts describes, and its inputs, on the meta device; None for the router."""
    ratio = int(name.split("ratio ")[1][0]) if "ratio " in name else None
    raw = torch.empty(1, 4 * SIDE**2, PATCH)
    first = name.split(",")[0].split(" ")[0].removesuffix("'s")
    before = "before the projector" in name
    if first == "flash" and "router" in name:
        return None
    if first == "flash":
        return in_the_seam("unshuffle", 4, TOKEN, language_width=language_width)
    if first == "c_abstractor" and not before:
        return Abstractor(len(raw[0]), PATCH, INNER, language_width, (16, 16 // ratio) if ratio == 2 else (8, 8)), [raw]
    if first == "ldpv2" and not before:
        return Ldpv2Projector(PATCH, language_width, (16, 8) if ratio == 2 else (8, 8)), [raw]
    if first == "gated_pool" and "raw" in name:
        return GatedPool(ratio=ratio, side=2 * SIDE, width=PATCH, inner=INNER), [raw]
    if first == "token_packer":
        scale = 4 if ratio == 4 else 2
        return TokenPackerProjector(PATCH, language_width, scale), [raw, torch.empty(1, len(raw[0]), 4 * PATCH)]
    if first == "texthawk2":
        return Texthawk2Resampler(PATCH, language_width), [raw, [raw] * 4]
    if first == "llama_vid":
        return LlamaVidProjector(PATCH, language_width, 1), [raw, torch.empty(1, 32, PATCH)]
    if first == "mqt":
        return MatryoshkaQueries(PATCH, language_width, 16, 16), [raw, 256]
    return in_the_seam(first, ratio, TOKEN if before else language_width)


def counted():
    file = FOLDER / "parameter_counts.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return [
        pytest.param(WIDTHS[size], name, entry, id=f"{size}-{name}")
        for size in WIDTHS
        for name, entry in known.get(size, {}).items()
        if name != "projector" and "router" not in name
    ]


@pytest.mark.parametrize(("language_width", "name", "entry"), counted())
def test_parameters_and_flops_at_real_sizes(language_width, name, entry):
    with torch.device("meta"):
        module, given = real(name, language_width)
        assert sum(parameter.numel() for parameter in module.parameters()) == entry["parameters"]
        if entry["flop_per_tile"] is not None:
            with counting() as flops:
                module(*given)
            assert flops() == pytest.approx(entry["flop_per_tile"], rel=0.02)
