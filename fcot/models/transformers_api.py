"""Everything that fcot overrides or passes by name in transformers, and a check that it exists.

transformers renames arguments in minor releases (5.24: `past_key_values` became `cache`) and silently accepts unknown
ones. With such a version a student would silently answer wrongly, so building one is refused.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import transformers
from transformers import InternVLForConditionalGeneration
from transformers.cache_utils import Cache
from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2DecoderLayer

from fcot.errors import UserError

KNOWN_VERSIONS = ("5.23", "5.24")  # the test suite passes on these
CACHE_NAMES = ("cache", "past_key_values")  # names of the argument, newest first


class Expected(NamedTuple):
    """A method of transformers, and those of its arguments that are used by name.

    Attributes:
        owner: Class of the method.
        method: Name of the method.
        arguments: Names of arguments; "cache" may have any of `CACHE_NAMES`.
        passes_on: Whether it must accept further arguments and pass them on.
    """

    owner: type
    method: str
    arguments: tuple[str, ...]
    passes_on: bool = False


FORWARD = ("input_ids", "pixel_values", "attention_mask", "position_ids", "cache", "inputs_embeds")
STUDENT = (  # what a student overrides or calls
    Expected(InternVLForConditionalGeneration, "forward", (*FORWARD, "labels", "logits_to_keep", "mm_encoder_outputs")),
    Expected(InternVLForConditionalGeneration, "prepare_inputs_for_generation", ("input_ids", "cache"), True),
    Expected(
        InternVLForConditionalGeneration, "_prepare_position_ids_for_generation", ("inputs_tensor", "model_kwargs")
    ),
    Expected(InternVLModel, "forward", (*FORWARD, "mm_encoder_outputs"), True),
    Expected(InternVLMultiModalProjector, "forward", ("image_features",)),
    Expected(Cache, "get_seq_length", ()),
)
BASE = (  # what serving engines build without the head; their versions of transformers may be older
    Expected(InternVLModel, "forward", ("input_ids", "position_ids", "inputs_embeds"), True),
    Expected(InternVLModel, "get_image_features", ("pixel_values",)),
    Expected(InternVLMultiModalProjector, "forward", ("image_features",)),
)
DECODER = (  # what the packed decoder calls; `segments` of a packed row is one of the arguments passed on
    *(Expected(layer, "forward", ("position_embeddings", "position_ids", "cache"), True)
      for layer in (LlamaDecoderLayer, Qwen2DecoderLayer)),
    *(Expected(attention, "forward", ("position_embeddings", "cache"), True)
      for attention in (LlamaAttention, Qwen2Attention)),
)  # fmt: skip


def arguments_of(owner: type, method: str) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a method by name; empty if there is no such method."""
    found = getattr(owner, method, None)
    return {} if found is None else inspect.signature(found).parameters


def cache_name() -> str:
    """Return the name of the cache in the arguments and outputs of the installed transformers' models."""
    names = arguments_of(InternVLForConditionalGeneration, "forward")
    return next((name for name in CACHE_NAMES if name in names), CACHE_NAMES[0])


CACHE = cache_name()


def missing(expected: Iterable[Expected]) -> list[str]:
    """Return what the installed transformers lacks, each as "Class.method(argument)"."""
    found = []
    for owner, method, arguments, passes_on in expected:
        there = arguments_of(owner, method)
        if not there:
            found.append(f"{owner.__name__}.{method}")
            continue
        names = [CACHE if name == "cache" else name for name in arguments]
        found += [f"{owner.__name__}.{method}({name})" for name in names if name not in there]
        if passes_on and not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in there.values()):
            found.append(f"{owner.__name__}.{method}(**kwargs)")
    return found


def require_api(expected: Iterable[Expected]) -> None:
    """Refuse a transformers version that has renamed or dropped something used by name.

    Raises:
        UserError: If something is missing.
    """
    lacking = missing(expected)
    if lacking:
        raise refusal(f"has no {', '.join(lacking)}")


def require_known_arguments(given: Mapping[str, Any]) -> None:
    """Refuse a cache under an unknown argument name.

    Raises:
        UserError: If one of the further arguments is a cache.
    """
    for name, value in given.items():
        if isinstance(value, Cache):
            raise refusal(f"gives the model its cache as {name!r}")


def refusal(what: str) -> UserError:
    """Return the error for an incompatible version of transformers.

    Args:
        what: How it differs from the known versions, as the end of a sentence.
    """
    return UserError(
        f"transformers {transformers.__version__} {what}, so this model would answer wrongly.\n"
        f"Install a version that it is known to work with ({' or '.join(KNOWN_VERSIONS)}): "
        f"pip install 'transformers=={KNOWN_VERSIONS[-1]}.*'"
    )
