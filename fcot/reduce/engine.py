"""Runs a reducer within a model of transformers, by hooks.

What belongs to one forward pass travels with it as the argument `reduction`, which transformers hands on from model to
attention function. Modules keep nothing, so that passes may run in several threads at once.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import DynamicLayer

from fcot.errors import UserError
from fcot.reduce.attention import OBSERVED
from fcot.reduce.chunk import Chunk
from fcot.reduce.forward_pass import Pass, cache_of, stage_masks
from fcot.reduce.inside import InsideReducer


class Engine:
    """A reducer at work in a model.

    Args:
        model: A model of transformers with a vision tower and a language model.
        reducer: What drops and merges.

    Attributes:
        visual: Which tokens of the next prompt are visual `[rows, tokens]`, for one that comes as embeddings: ids are
            not there to tell.
    """

    def __init__(self, model: Any, reducer: InsideReducer) -> None:
        self.model, self.reducer = model, reducer
        self.visual: Tensor | None = None
        self.language = model.model.language_model
        self._handles: list[RemovableHandle] = []
        self._attention: str | None = None

    def attach(self) -> None:
        """Put the hooks in place."""
        config = self.language.config
        first = self.reducer.stages(config.num_hidden_layers)[0]
        self._attention = config._attn_implementation
        self.language.set_attn_implementation(OBSERVED)
        self._handles.append(self.model.model.register_forward_pre_hook(self._begin, with_kwargs=True))
        layers = self.language.layers[: config.num_hidden_layers]
        for number, layer in enumerate(layers):
            # layer 0 shows what entered, the one before a stage what the observed attention was given
            if number == 0 or number >= first - 1:
                self._handles.append(layer.register_forward_pre_hook(_Enter(number), with_kwargs=True))
        self._handles.append(layers[-1].register_forward_hook(_leave, with_kwargs=True))

    def detach(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._attention is not None:
            self.language.set_attn_implementation(self._attention)

    def _begin(
        self, module: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give a forward pass what goes with it."""
        ids = args[0] if args else given.get("input_ids")
        tokens = given["inputs_embeds"] if ids is None else ids
        refuse_pass(self.language, given)
        cache, mask = cache_of(given), given.get("attention_mask")
        past = 0 if cache is None else cache.get_seq_length()
        stages, filled = self.reducer.stages(self.language.config.num_hidden_layers), tuple(stage_masks(cache))
        if past and filled not in ((), stages):
            raise UserError(
                f"The cache was filled by another reducer: its layers differ in length at {filled}, not at {stages}.\n"
                "Go on with the reducer that read the first turn, or read it again."
            )
        if mask is None:
            mask = torch.ones(tokens.shape[0], past + tokens.shape[1], dtype=torch.bool, device=tokens.device)
        before, mask = mask.bool().split([mask.shape[1] - tokens.shape[1], tokens.shape[1]], 1)
        chunk = Chunk.begin(mask, self._visual(ids, tokens), ids)
        return args, {**given, "reduction": Pass(self.reducer, self.language, chunk, before)}

    def _visual(self, ids: Tensor | None, tokens: Tensor) -> Tensor:
        """Return which tokens of a pass are visual `[rows, tokens]`.

        Raises:
            UserError: If they come as embeddings and nobody has said it.
        """
        if ids is not None:
            found: Tensor = ids == self.model.config.image_token_id
            return found
        if self.visual is None or self.visual.shape != tokens.shape[:2]:
            raise UserError(
                f"A prompt of {tokens.shape[0]} rows and {tokens.shape[1]} tokens came as embeddings, which do not say "
                "what is visual.\nSet `visual` of what `reduced(...)` returns to a mask of these sizes, or give ids."
            )
        return self.visual.to(tokens.device)


class _Enter:
    """What happens before a layer."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(
        self, layer: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return the layer's arguments as the reducer leaves them."""
        run = given.get("reduction")
        if run is None:
            return None
        hidden = run.enter(self.number, layer, args[0], given)
        return (hidden, *args[1:]), {**given, **run.current}


def _leave(layer: Any, args: tuple[Any, ...], given: dict[str, Any], hidden: Tensor) -> Tensor | None:
    """Put what is left back where it stood, so that logits have the prompt's length and labels fit."""
    run = given.get("reduction")
    return run.chunk.scattered(hidden) if run is not None and run.cuts else None


def refuse_pass(language: Any, given: dict[str, Any]) -> None:
    """Refuse a forward pass that stages cannot act in.

    Raises:
        UserError: If its mask, cache or outputs are such.
    """
    mask, cache = given.get("attention_mask"), cache_of(given)
    if mask is not None and (not isinstance(mask, Tensor) or mask.ndim != 2):
        raise UserError(
            "The attention mask is made for all layers alike, but stages leave them different lengths.\n"
            "Give a mask of two dimensions, and no cache_implementation."
        )
    if cache is not None and not all(type(layer) is DynamicLayer for layer in cache.layers):
        raise UserError(
            f"The cache ({type(cache).__name__}) has one length for all layers, but stages leave them different ones.\n"
            "Set cache_implementation to None or give a DynamicCache."
        )
    if given.get("output_attentions", getattr(language.config, "output_attentions", False)):
        raise UserError(
            "output_attentions is set, but no attention map is made while visual tokens are reduced.\n"
            "Set output_attentions to False."
        )
    if language.training and getattr(language, "gradient_checkpointing", False):
        raise UserError(
            "Gradient checkpointing would run each stage a second time in the backward pass.\n"
            "Turn gradient checkpointing off while visual tokens are reduced."
        )
