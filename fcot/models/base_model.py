"""The student without its head, as serving engines such as vLLM build it around their own attention and sampling."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.internvl.modeling_internvl import InternVLModel

from fcot.compress import Compressor, Elastic
from fcot.errors import UserError
from fcot.models.positions import teacher_positions
from fcot.models.projector import projector_of
from fcot.models.student_config import CompressedInternVLConfig
from fcot.models.transformers_api import BASE, require_api
from fcot.models.vision import vision_features

PARTS_OF_A_POSITION = 2**20  # engines keep positions as integers, and a visual token may stand between two


def needs_more_than_a_page(compressor: Compressor) -> str | None:
    """Return why engines that see pages before prompts, and count tokens by size, cannot serve it; None if they can."""
    if compressor.reads_text:
        return "reads the question"
    if compressor.varies and not isinstance(compressor, Elastic):
        return "gives tiles different numbers of visual tokens"
    return None


class CompressedInternVLModel(InternVLModel):  # type: ignore[misc]
    """A student without its head; an elastic one reads every tile at its own ratio.

    vLLM's back end for models of transformers makes one of a configuration alone, gives it weights, and calls
    `get_image_features` for pages, `get_rope_index` for prompts and `forward` for the rows of several prompts at once.

    Args:
        config: Configuration of the student.

    Raises:
        UserError: If tiles differ in number of visual tokens, or these depend on the question: engines see a page
            before they see its prompt, and keep what they saw.
    """

    config_class = CompressedInternVLConfig
    with_head: ClassVar[Any]

    def __init__(self, config: CompressedInternVLConfig) -> None:
        require_api(BASE)
        super().__init__(config)
        self.multi_modal_projector = projector_of(config)
        if what := needs_more_than_a_page(self.compressor):
            raise UserError(
                f"The compressor {config.compressor} {what}, which this engine cannot serve.\n"
                "Serve the student with `fcot serve`."
            )
        self.post_init()

    @classmethod
    def register_head(cls, head: Any) -> Any:
        """Name the class of the student with its head; a decorator of it."""
        cls.with_head = head
        return head

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load the student with its head, as InternVL2's own `AutoModel.from_pretrained` does."""
        return cls.with_head.from_pretrained(*args, **kwargs)

    @property
    def compressor(self) -> Compressor:
        """The compressor."""
        found: Compressor = self.multi_modal_projector.compressor
        return found

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Return the visual tokens of normalised tiles `[tiles, 3, S, S]`, as `pooler_output` `[tiles, tokens, width]`.

        Args:
            pixel_values: The tiles.
            kwargs: What else engines pass on of the processor's result; not used.
        """
        features = vision_features(self, pixel_values.to(self.dtype), self.compressor.levels)
        rows = self.multi_modal_projector(features)
        return BaseModelOutputWithPooling(pooler_output=rows.view(len(pixel_values), -1, rows.shape[-1]))

    def get_rope_index(self, input_ids: Tensor, mm_token_type_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return positions as engines keep them for M-RoPE, and how far the next token's is from the length.

        Engines keep three integers a token, and count all three on when they generate. The first is the whole part of
        the position; the second is larger by its fraction, in parts of `PARTS_OF_A_POSITION`.

        Args:
            input_ids: A prompt `[1, length]` without padding.
            mm_token_type_ids: Not used.

        Returns:
            int64 `[3, 1, length]` and `[1, 1]`.
        """
        compressor, counts = self.compressor, None
        if isinstance(compressor, Elastic):
            tiles = int((input_ids == self.config.image_token_id).sum()) // compressor.max_tokens
            counts = torch.full((tiles,), compressor.max_tokens)
        places = teacher_positions(self.config, compressor, input_ids, None, counts).double()
        whole = places.floor()
        parts = ((places - whole) * PARTS_OF_A_POSITION).round()
        rows = torch.stack([whole, whole + parts, whole]).long()
        return rows, rows[0, :, -1:] + 1 - input_ids.shape[1]

    def forward(self, *args: Any, position_ids: Tensor | None = None, **kwargs: Any) -> Any:
        """Run the model as transformers does; `position_ids` may be `[3, 1, length]`, as `get_rope_index` has them."""
        if position_ids is not None and position_ids.ndim == 3:
            whole, more, _ = position_ids
            position_ids = whole + (more - whole) / PARTS_OF_A_POSITION
        return super().forward(*args, position_ids=position_ids, **kwargs)
