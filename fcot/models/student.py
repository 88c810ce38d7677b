"""The student as a transformers model: InternVL with a compressor inside its projector."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    InternVLForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fcot.compress import Compressor, Elastic
from fcot.errors import UserError
from fcot.internvl.tokens import positions
from fcot.models.base_model import CompressedInternVLModel
from fcot.models.image_processor import CompressedInternVLImageProcessor
from fcot.models.positions import teacher_positions
from fcot.models.processor import CompressedInternVLProcessor
from fcot.models.projector import projector_of
from fcot.models.question import Text, question_text, samples_of
from fcot.models.relayout import laid_out_again, tiles_shown
from fcot.models.routing import pixels_of, requests_of
from fcot.models.student_config import CompressedInternVLConfig
from fcot.models.token_counts import TokenCounts
from fcot.models.transformers_api import CACHE, STUDENT, refusal, require_api, require_known_arguments
from fcot.models.vision import vision_features


@CompressedInternVLModel.register_head
class CompressedInternVL(InternVLForConditionalGeneration):
    """An InternVL whose language model reads 1/ratio of the visual tokens (FCoT-VL, section 3.1).

    Everything else, loading, saving and generation included, is inherited. `config.image_seq_length` is the number of
    visual tokens of a tile after compression, or the maximum where tiles differ: `forward` and `generate` then need
    `tile_tokens`, the number for each tile.

    Args:
        config: Configuration of the student.

    Raises:
        UserError: If the installed transformers has renamed or dropped what this model uses.
    """

    config_class = CompressedInternVLConfig
    _keep_in_fp32_modules_strict = ("router",)  # its statistics lose too much in bf16

    def __init__(self, config: CompressedInternVLConfig) -> None:
        require_api(STUDENT)
        super().__init__(config)
        self.model.multi_modal_projector = projector_of(config)
        self.post_init()
        # transformers has just initialised all linear layers and convolutions its own way
        self.model.multi_modal_projector.compressor.reset_parameters()

    @property
    def compressor(self) -> Compressor:
        """The compressor."""
        found: Compressor = self.model.multi_modal_projector.compressor
        return found

    def positions(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, counts: Tensor | None = None
    ) -> Tensor | None:
        """Return the positions of tokens `[batch, length]`, None where they are consecutive.

        Args:
            input_ids: `[batch, length]`.
            attention_mask: 1 on tokens, 0 on padding; None for all tokens.
            counts: Visual tokens of each tile in the ids, in order; needed where tiles differ.
        """
        return self._teacher_positions(input_ids, attention_mask, counts) if self.config.keep_positions else None

    def _teacher_positions(self, input_ids: Tensor, mask: Tensor | None, counts: Tensor | None) -> Tensor:
        """Return the positions that tokens have in the teacher."""
        return teacher_positions(self.config, self.compressor, input_ids, mask, counts)

    @property
    def makes_rows(self) -> bool:
        """Whether visual tokens are made here, as transformers passes its projector nothing but the last features."""
        return self.compressor.varies or self.compressor.reads_features

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Generate as transformers does; where tiles differ in number of tokens, `pixel_values` need `tile_tokens`.

        An elastic student may be asked for `visual_tokens` of every tile, or of those of each page; "auto" leaves them
        to its router. Or it is given a `budget`, the most visual tokens of each prompt. The placeholders of its prompts
        are then laid out anew, and are so in what is returned.
        """
        pixels = kwargs.get("pixel_values")
        asked = kwargs.pop("visual_tokens", None), kwargs.pop("budget", None)
        if asked != (None, None):
            ids: Any = kwargs.get("input_ids", inputs)
            self._check_asked(*asked)
            if isinstance(self.compressor, Elastic) and ids is not None and pixels is not None:
                mask, laid_out = kwargs.get("attention_mask"), kwargs.get("tile_tokens")
                for replaced in ("pixel_values", "position_ids"):  # of the prompts as they were
                    kwargs.pop(replaced, None)
                kwargs |= self.route(ids, pixels, mask, laid_out, *asked)
                inputs, pixels = None, None
        counts = self._tile_tokens(pixels, kwargs.pop("tile_tokens", None))
        if self.makes_rows and pixels is not None:
            ids, mask = kwargs.get("input_ids", inputs), kwargs.get("attention_mask")
            kwargs["mm_encoder_outputs"] = self.image_outputs(kwargs.pop("pixel_values"), counts, ids, mask)
        ids = kwargs.get("input_ids", inputs)
        # a second turn's cache holds the tiles, and its positions still depend on their numbers of tokens
        shown = pixels is not None or (ids is not None and bool((ids == self.config.image_token_id).any()))
        new = self.config.keep_positions and "position_ids" not in kwargs
        if new and shown and counts is not None and ids is not None:
            kwargs["position_ids"] = self.positions(ids, kwargs.get("attention_mask"), counts)
        return super().generate(inputs, *args, **kwargs)

    @torch.no_grad()
    def route(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        tile_tokens: Tensor | None = None,
        visual_tokens: Any = "auto",
        budget: int | None = None,
    ) -> dict[str, Any]:
        """Look at the tiles of an elastic student's prompts, and lay the prompts out for what is asked for.

        Args:
            input_ids: Prompts `[batch, length]`.
            pixel_values: Normalised tiles `[tiles, 3, S, S]`.
            attention_mask: 1 on tokens, 0 on padding; None for all tokens.
            tile_tokens: Visual tokens of each tile in the prompts as they are.
            visual_tokens: Asked of each tile, or of those of each page; "auto" for what the router chooses.
            budget: Most visual tokens of each prompt, instead.

        Returns:
            Arguments of `generate`, with visual tokens in place of pixels, so that the tower runs once; among them
            `input_ids` as they are read, and `tile_tokens`, of which each stands for a tile and its ratio.

        Raises:
            UserError: If the student cannot give what is asked for.
        """
        asked = None if budget is not None and visual_tokens == "auto" else visual_tokens
        self._check_asked(asked, budget)
        projector: Any = self.model.multi_modal_projector
        counts = self._tile_tokens(pixel_values, tile_tokens)
        assert counts is not None
        image_id = self.config.image_token_id
        shown = tiles_shown(input_ids, attention_mask, image_id, counts.tolist())
        features = vision_features(self.model, pixel_values.to(self.dtype), self.compressor.levels)
        requests = requests_of(pixels_of(pixel_values, self.config.router), shown, features)
        counts = projector.routing.counts(requests, asked, budget)
        ids, mask = laid_out_again(input_ids, attention_mask, image_id, shown, counts)
        rows = list(projector(features, counts.tolist()).split(counts.tolist()))
        found = {"input_ids": ids, "attention_mask": mask, "tile_tokens": counts}
        found["mm_encoder_outputs"] = image_output(rows)
        if self.config.keep_positions:
            found["position_ids"] = self.positions(ids, mask, counts)
        return found

    def _check_asked(self, visual_tokens: Any, budget: int | None) -> None:
        """Refuse what this student cannot give."""
        projector: Any = self.model.multi_modal_projector
        if isinstance(self.compressor, Elastic):
            projector.routing.check(visual_tokens, budget)
        else:
            TokenCounts(self.config, visual_tokens, budget)

    def image_outputs(
        self,
        pixel_values: Tensor,
        counts: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> dict[str, BaseModelOutputWithPooling]:
        """Return the visual tokens of each tile `[its tokens, width]`, in the form that transformers passes on.

        Args:
            pixel_values: Normalised tiles `[tiles, 3, S, S]`.
            counts: Visual tokens of each tile, where they may differ.
            input_ids: Prompts `[batch, length]`, for a compressor that reads the question.
            attention_mask: 1 on their tokens, 0 on padding.

        Raises:
            UserError: If an elastic student's prompts have another number of placeholders than the tiles tokens.
        """
        counts = self._tile_tokens(pixel_values, counts)
        if isinstance(self.compressor, Elastic) and counts is not None and input_ids is not None:
            self._check_placeholders(input_ids, int(counts.sum()))
        features = vision_features(self.model, pixel_values.to(self.dtype), self.compressor.levels)
        text = self._text(input_ids, attention_mask, len(pixel_values)) if self.compressor.reads_text else None
        if not self.compressor.varies:
            return image_output(list(self.model.multi_modal_projector(features, None, text)))
        told = None if counts is None else counts.tolist()
        return image_output(list(self.model.multi_modal_projector(features, told, text).split(told)))

    def _check_placeholders(self, input_ids: Tensor, expected: int) -> None:
        """Refuse prompts that were laid out for other numbers of visual tokens."""
        found = expected if input_ids.is_meta else int((input_ids == self.config.image_token_id).sum())
        if found != expected:
            raise UserError(
                f"The prompts have {found} image placeholders, and their tiles {expected} visual tokens.\n"
                "Pass on tile_tokens, which the processor returns with the prompts."
            )

    def _tile_tokens(self, pixel_values: Tensor | None, given: Tensor | None) -> Tensor | None:
        """Return the visual tokens of each tile as given, or an elastic student's own if none are given."""
        if given is None and pixel_values is not None and isinstance(self.compressor, Elastic):
            return self.compressor.counts(pixel_values)
        return given

    def _text(self, input_ids: Tensor | None, attention_mask: Tensor | None, num_tiles: int) -> Text | None:
        """Return the question about each of the tiles, if there are ids."""
        if input_ids is None:
            return None
        samples = samples_of(input_ids, attention_mask)
        if input_ids.is_meta:  # without values, as when FLOPs are counted
            return question_text(self, samples, [num_tiles // len(samples)] * len(samples))
        tiles = [int((ids == self.config.image_token_id).sum()) // self.compressor.max_tokens for ids in samples]
        return question_text(self, samples, tiles)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, Any] | None = None,
        cache: Any = None,
        tile_tokens: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the model as transformers does, with the teacher's positions if the configuration keeps them.

        transformers inspects the signature: without `logits_to_keep` the head is applied to all rows of a prompt,
        without `mm_encoder_outputs` beams mix up the tiles of a page, without `labels` its trainer drops them. The
        cache is `past_key_values` or, since 5.24, `cache`; any version may use either name.

        Raises:
            UserError: If cache or positions are not in the form that this model needs.
        """
        require_known_arguments(kwargs)
        held = past_key_values if cache is None else cache
        tile_tokens = self._tile_tokens(pixel_values, tile_tokens)
        if self.makes_rows and pixel_values is not None:
            made_here = self.image_outputs(pixel_values, tile_tokens, input_ids, attention_mask)
            mm_encoder_outputs, pixel_values = made_here, None
        image = (mm_encoder_outputs or {}).get("image")
        if image is not None and isinstance(image.pooler_output, list | tuple):
            image.pooler_output = torch.cat(list(image.pooler_output))  # beams have repeated a sample's tiles
        if self.config.keep_positions and input_ids is not None:
            position_ids = self._kept(input_ids, attention_mask, position_ids, held, tile_tokens)
            if attention_mask is None and not _length(held) and bool((position_ids.diff() > 0).all()):
                # without a mask, transformers takes gaps between positions for borders between packed sequences
                attention_mask = torch.ones_like(input_ids)
        outputs = super().forward(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            logits_to_keep=logits_to_keep,
            mm_encoder_outputs=mm_encoder_outputs,
            **{CACHE: held},
            **kwargs,
        )
        made = getattr(outputs, CACHE, None) if held is None else held
        prompted = input_ids is not None and input_ids.shape[1] > 1
        if self.config.keep_positions and prompted and position_ids is not None and made is not None:
            # later tokens continue from the last position, not from the number of tokens
            made.position_offset = position_ids[:, -1:] + 1 - made.get_seq_length()
        return outputs

    def _kept(
        self, input_ids: Any, attention_mask: Tensor | None, given: Tensor | None, cache: Any, counts: Tensor | None
    ) -> Tensor:
        """Return the positions given, or else the teacher's, continued from the cache.

        Raises:
            UserError: If part of the prompt is neither here nor in a cache, or the positions given are consecutive
                where a visual token takes several.
        """
        if given is None:
            if attention_mask is not None and attention_mask.shape[-1] > input_ids.shape[1] and not _length(cache):
                raise refusal("gives the model the end of a prompt without a cache of its start")
            return self._positions_behind(input_ids, attention_mask, cache, counts)
        known = counts is not None or not self.compressor.varies
        if known and not _length(cache) and input_ids.shape[1] > 1 and not input_ids.is_meta:
            # consecutive positions cannot be this model's own; a student that keeps positions would misread the page
            anew = positions(input_ids, attention_mask, self.config.image_token_id, 1)
            kept = self._teacher_positions(input_ids, attention_mask, counts)
            if bool((given == anew).all()) and not bool((kept == anew).all()):
                raise refusal("numbers visual tokens consecutively")
        return given

    def _positions_behind(
        self, input_ids: Any, attention_mask: Tensor | None, cache: Any, counts: Tensor | None = None
    ) -> Tensor:
        """Return the positions of tokens that follow those of a cache; the attention mask may include the cache."""
        mask = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :]
        own = self._teacher_positions(input_ids, mask, counts)
        behind = _length(cache)
        return own + behind + getattr(cache, "position_offset", 0) if behind else own

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """Return the positions of a prompt; `generate` continues from the last one.

        The ids of a prompt given as embeddings are unknown here: its positions must be given too.
        """
        default: Tensor = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        input_ids = model_kwargs.get("input_ids", inputs_tensor)
        if not self.config.keep_positions or input_ids.ndim != 2 or not input_ids.shape[1]:
            return default
        cache, mask = model_kwargs.get(CACHE), model_kwargs.get("attention_mask")
        behind = default.shape[1] - input_ids.shape[1]
        if behind and behind == _length(cache):  # only the new ids are given
            new = self._positions_behind(input_ids, mask, cache)
            return torch.cat([default[:, :behind].expand(len(new), -1), new], dim=1)
        return default if behind else self.positions(input_ids, mask)  # type: ignore[return-value]  # it keeps them


def image_output(rows: list[Tensor]) -> dict[str, BaseModelOutputWithPooling]:
    """Return the visual tokens of each tile in the form that transformers passes on."""
    return {"image": BaseModelOutputWithPooling(pooler_output=rows)}


def _length(cache: Any) -> int:
    """Return how many tokens a cache holds."""
    return 0 if cache is None else int(cache.get_seq_length())


AutoConfig.register("fcot_internvl", CompressedInternVLConfig)
AutoModel.register(CompressedInternVLConfig, CompressedInternVLModel)
AutoModelForImageTextToText.register(CompressedInternVLConfig, CompressedInternVL)
AutoProcessor.register(CompressedInternVLConfig, CompressedInternVLProcessor)
AutoImageProcessor.register(
    CompressedInternVLConfig,
    image_processor_classes=dict.fromkeys(("pil", "torchvision"), CompressedInternVLImageProcessor),
)
