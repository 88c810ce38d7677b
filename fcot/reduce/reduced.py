"""Reduce the visual tokens of a plain model of transformers for a while."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.attention import OBSERVED
from fcot.reduce.before import BeforeReducer
from fcot.reduce.engine import Engine
from fcot.reduce.inside import InsideReducer
from fcot.reduce.reducer import REDUCERS, Reducer
from fcot.reduce.shorten import shorten


@contextmanager
def reduced(model: Any, reducer: str | Reducer, **options: Any) -> Iterator[Engine | None]:
    """Let a reducer act in a model; afterwards the model is as it was.

    Prompts are reduced as they are read, answers are not. With a reducer inside the language model, this attends by
    SDPA meanwhile; logits have the prompt's length, zeros at dropped tokens, and hidden states have the lengths that
    stages leave. One that acts before it acts in `generate` alone; for `forward`, see `shorten`.

    Args:
        model: InternVL, LLaVA or LLaVA-NeXT with a language model of Llama, Qwen2, Qwen3 or Mistral, a student of
            fcot's too.
        reducer: Short name of a reducer, or one made already.
        options: Of the reducer named, by its constructor.

    Yields:
        The engine of a reducer inside the language model: its `visual` says which tokens are visual where a prompt
        comes as embeddings.

    Raises:
        UserError: If there is no such reducer or option, or the model cannot be reduced that way.
    """
    check_model(model)
    chosen = made(reducer, options)
    if isinstance(chosen, BeforeReducer):
        model.generate = shortening(model, chosen)
        try:
            yield None
        finally:
            del model.generate
        return
    engine = Engine(model, chosen)
    engine.reducer.check(engine.language.config.num_hidden_layers)
    try:
        engine.attach()
        model.generate = guarded(model)
        yield engine
    finally:
        model.__dict__.pop("generate", None)
        engine.detach()


def made(reducer: str | Reducer, options: dict[str, Any]) -> InsideReducer | BeforeReducer:
    """Return a reducer by name and options.

    Raises:
        UserError: If there is none, it has no such options, or it acts on pages before they are tiles.
    """
    if isinstance(reducer, str):
        REDUCERS.check_options(reducer, options)
        found = REDUCERS[reducer](**options)
    elif options:
        raise UserError(
            f"{type(reducer).__name__} has been made already, and options ({', '.join(options)}) came besides.\n"
            "Give them to its constructor."
        )
    else:
        found = reducer
    if not isinstance(found, InsideReducer | BeforeReducer):
        known = [name for name, kind in REDUCERS.items() if issubclass(kind, InsideReducer | BeforeReducer)]
        raise UserError(
            f"{type(found).__name__} acts where a page is cut into tiles, so it cannot be attached to a model.\n"
            f"Give one of {', '.join(known)}."
        )
    return found


def shortening(model: Any, reducer: BeforeReducer) -> Any:
    """Return a model's `generate` that reads prompts with what a reducer leaves, and returns them whole."""

    def generate(inputs: Tensor | None = None, **given: Any) -> Tensor:
        if given.get("return_dict_in_generate"):
            raise UserError(
                "return_dict_in_generate is set, whose scores would belong to other prompts than those given.\n"
                "Leave it out, or call `shorten` and the model's own `generate`."
            )
        ids = given.pop("input_ids", inputs)
        names = ("attention_mask", "pixel_values", "image_sizes")
        shown = {name: given.pop(name) for name in names if given.get(name) is not None}
        short = shorten(model, {"input_ids": ids, **shown}, reducer)
        new = type(model).generate(model, **short, **given)[:, short["input_ids"].shape[1] :]
        return torch.cat([ids.repeat_interleave(len(new) // len(ids), 0), new], 1)

    return generate


def check_model(model: Any) -> None:
    """Check that a model is one that can be reduced.

    Raises:
        UserError: If it has no language model of known form, looks at windows of tokens, or is being reduced already.
    """
    language: Any = getattr(getattr(model, "model", None), "language_model", None)
    if not hasattr(language, "layers") or not hasattr(model.config, "image_token_id"):
        raise UserError(
            f"{type(model).__name__} has no vision tower and language model as InternVL and LLaVA have them.\n"
            "Give an InternVL, LLaVA or LLaVA-NeXT of transformers."
        )
    kinds, window = getattr(language.config, "layer_types", None), getattr(language.config, "sliding_window", None)
    if "sliding_attention" in kinds if kinds else window is not None:
        raise UserError(
            f"The language model ({language.config.model_type}) attends to a window of {window} tokens, which stages "
            "would change.\nSet sliding_window to null in its configuration if it was trained with full attention."
        )
    if language.config._attn_implementation == OBSERVED:
        raise UserError(
            "A reducer acts in this language model already, on its own or as part of another model.\n"
            "Leave that `reduced(...)` first."
        )


def guarded(model: Any) -> Any:
    """Return a model's `generate` that refuses options under which it would answer otherwise, or fail."""
    known = inspect.signature(type(model).generate)

    @wraps(model.generate)
    def generate(*args: Any, **given: Any) -> Any:
        arguments = known.bind_partial(model, *args, **given).arguments
        config = arguments.get("generation_config") or model.generation_config
        more = {**arguments, **arguments.get("kwargs", {})}
        refuse_generation({name: more.get(name, getattr(config, name, None)) for name in REFUSED})
        return type(model).generate(model, *args, **given)

    return generate


REFUSED = ("prefill_chunk_size", "cache_implementation", "use_cache", "output_attentions")


def refuse_generation(options: dict[str, Any]) -> None:
    """Refuse options of `generate` that stages do not go with.

    Raises:
        UserError: If one of them is set so.
    """
    if options["prefill_chunk_size"] is not None:
        raise UserError(
            f"prefill_chunk_size is {options['prefill_chunk_size']}, but a prompt is reduced by what its last token "
            "looks at, which may be in another chunk.\nSet prefill_chunk_size to None."
        )
    if options["cache_implementation"] not in (None, "dynamic"):
        raise UserError(
            f"cache_implementation is {options['cache_implementation']!r}, a cache of one length for all layers, but "
            "stages leave them different ones.\nSet cache_implementation to None."
        )
    if options["use_cache"] is False:
        raise UserError(
            "use_cache is False, so the prompt would be read and reduced anew for every token of the answer.\n"
            "Set use_cache to True."
        )
    if options["output_attentions"]:
        raise UserError(
            "output_attentions is set, but no attention map is made while visual tokens are reduced.\n"
            "Set output_attentions to False."
        )
