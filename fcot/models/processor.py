"""Turn pages and text into a student's inputs: tiles, and a placeholder for each visual token."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import MultiModalData, ProcessorMixin

from fcot.compress import Elastic, make_compressor
from fcot.errors import UserError
from fcot.internvl.pixels import denormalize
from fcot.internvl.prompts import IMAGE
from fcot.internvl.tokens import AROUND, CONTEXT, END, START, page_tokens, sums_by_sample
from fcot.models.image_processor import TILING_OPTIONS
from fcot.models.routing import Asked, Routing, pixels_of, requests_of


class CompressedInternVLProcessor(ProcessorMixin):
    """Turns pages and text into a student's inputs.

    Args:
        image_processor: Cuts pages into tiles.
        tokenizer: The model's tokenizer, with InternVL's image tokens.
        image_seq_length: Visual tokens of a tile after compression; the maximum where tiles differ.
        chat_template: How `apply_chat_template` lays out a conversation.
        compressor: Arguments of `make_compressor`, for counting tokens where tiles differ.
        router: Settings of an elastic student's router.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        chat_template: str | None = None,
        compressor: Mapping[str, Any] | None = None,
        router: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.image_seq_length, self.compressor, self.router = image_seq_length, compressor, router
        self.image_token, self.image_token_id = CONTEXT, tokenizer.convert_tokens_to_ids(CONTEXT)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: None = None,
        *,
        images_kwargs: Mapping[str, Any] | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
        return_tensors: str | None = None,
        visual_tokens: Asked = None,
        budget: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenize prompts, padding several on the left, and cut their pages into tiles.

        Args:
            images: Pages in the order of their placeholders: one, a list, or a list for each text.
            text: Prompts with `<IMG_CONTEXT>` (or InternVL's `<image>`) where a page belongs.
            videos: Not supported.
            audio: Not supported.
            images_kwargs: Options of tiling, such as `max_patches`; may also be given by name.
            text_kwargs: Options of the tokenizer, such as `padding`; may also be given by name.
            return_tensors: "pt" or "np".
            visual_tokens: Asked of each tile of an elastic student, such as 64, 128 or 256, or "auto" for what its
                router chooses; one, or one for each page (default: those of the student's own ratio).
            budget: Most visual tokens of each text's pages, instead, shared out by the router; without one, all tiles
                have the same number.
            kwargs: Options of tiling and of the tokenizer, by name. Serving engines give
                `return_text_replacement_offsets`, and get what has replaced each placeholder of each text.

        Returns:
            `input_ids` and `attention_mask` `[texts, length]`, and `pixel_values` `[tiles, 3, S, S]` of all pages; with
            them `tile_tokens` `[tiles]` if tiles may have different numbers of visual tokens. What a router
            chooses by the vision tower's features is left to `generate` or `route`: they are told what is asked for.

        Raises:
            UserError: If there is no text, pages and placeholders differ in number, truncation would drop visual
                tokens, there are videos or audio, or the student cannot give the visual tokens asked for.
        """
        if text is None or videos is not None or audio is not None:
            raise UserError("This model reads text and images. Give text=..., and images=... for its placeholders.")
        tiling = {name: kwargs.pop(name) for name in TILING_OPTIONS if name in kwargs} | dict(images_kwargs or {})
        return_spans = kwargs.pop("return_text_replacement_offsets", False)
        kwargs.pop("return_mm_token_type_ids", None)  # serving engines ask for it and find placeholders without it
        texts = [text] if isinstance(text, str) else list(text)
        if not self.elastic and (budget is not None or visual_tokens not in (None, self.image_seq_length)):
            raise UserError(
                f"visual_tokens is {visual_tokens}, budget {budget}, and this model gives a tile "
                f"{self.image_seq_length}.\nLeave them out, or take an elastic student."
            )
        counts: list[int] = []
        pixels: dict[str, Any] = {}
        later: dict[str, Any] = {}
        if images is not None:
            cut_up = self.image_processor(images, **tiling)
            pixels = {"pixel_values": cut_up["pixel_values"]}
            if self.compressor is None:
                counts = [page_tokens(tiles, self.image_seq_length) for tiles in cut_up["num_patches"]]
            else:
                if self.elastic:
                    pages = list(cut_up["num_patches"])
                    asked, later = self._now_and_later(visual_tokens, budget)
                    pixels["tile_tokens"] = self._asked(pixels["pixel_values"], pages, texts, *asked)
                else:
                    pixels["tile_tokens"] = self._tile_tokens(pixels["pixel_values"])
                counts = sums_by_sample(pixels["tile_tokens"], torch.as_tensor(cut_up["num_patches"])).tolist()
        prompts = self._expand(texts, counts)
        defaults = {"padding": len(prompts) > 1, "padding_side": "left"}
        encoded = self.tokenizer(prompts, **{**defaults, **kwargs, **(text_kwargs or {})})
        if counts:
            self._check_whole(prompts, encoded["input_ids"])
        found = BatchFeature({**encoded, **pixels}, tensor_type=return_tensors)
        found.data |= later
        if return_spans:
            found.data["text_replacement_offsets"] = self._spans(texts, counts)
        return found

    def _check_whole(self, prompts: Sequence[str], rows: Sequence[Any]) -> None:
        """Refuse truncation that cuts into pages: the model would get tiles without placeholders for them."""
        tokens = (START, self.image_token, END)
        for number, (prompt, row) in enumerate(zip(prompts, rows, strict=False)):
            ids = torch.as_tensor(row)
            left = [int((ids == self.tokenizer.convert_tokens_to_ids(token)).sum()) for token in tokens]
            if left != [prompt.count(token) for token in tokens]:
                total = prompt.count(self.image_token)
                raise UserError(
                    f"Text {number} has {total} visual tokens, and truncated to {len(ids)} tokens it keeps {left[1]} "
                    "of them. Truncate text without pages, or give a larger max_length or a smaller max_patches."
                )

    @property
    def elastic(self) -> bool:
        """Whether the student's tiles have the numbers of visual tokens that are asked for."""
        return bool((self.compressor or {}).get("ratios"))

    def _routing(self) -> Routing:
        with torch.device("meta"):
            compressor = make_compressor(**dict(self.compressor or {}))
        assert isinstance(compressor, Elastic)
        return Routing(compressor, self.router)

    def _now_and_later(
        self, visual_tokens: Asked, budget: int | None
    ) -> tuple[tuple[Asked, int | None], dict[str, Any]]:
        """Return what is laid out here, and what the model is asked for when it has seen the tiles."""
        routing = self._routing()
        routing.check(visual_tokens, budget)
        if not routing.learned or not routing.chooses(visual_tokens, budget):
            return (visual_tokens, budget), {}
        asked = {"visual_tokens": visual_tokens, "budget": budget}
        return (None, None), {name: value for name, value in asked.items() if value is not None}

    def _asked(
        self,
        pixel_values: Any,
        num_tiles: Sequence[int],
        texts: Sequence[str],
        visual_tokens: Asked,
        budget: int | None,
    ) -> torch.Tensor:
        """Return the visual tokens of each tile of an elastic student `[tiles]`.

        Args:
            pixel_values: Normalised tiles.
            num_tiles: Tiles of each page.
            texts: Prompts, one placeholder a page.
            visual_tokens: Asked of each tile, or of those of each page.
            budget: Most visual tokens of a text's pages, instead.
        """
        pages, placeholder = iter(num_tiles), self._placeholder(texts)
        shown = [list(islice(pages, text.count(placeholder))) for text in texts]
        shown.append([*pages])  # pages that no text names are refused when texts are expanded
        own = {"image_mean": self.image_processor.image_mean, "image_std": self.image_processor.image_std}
        pixels = pixels_of(torch.as_tensor(pixel_values), own)
        return self._routing().counts(requests_of(pixels, shown), visual_tokens, budget)

    def _placeholder(self, texts: Sequence[str]) -> str:
        return self.image_token if any(self.image_token in text for text in texts) else IMAGE

    def _tile_tokens(self, pixel_values: Any) -> torch.Tensor:
        """Return how many visual tokens each tile has `[tiles]`."""
        settings = self.image_processor
        mean, std = torch.tensor(settings.image_mean), torch.tensor(settings.image_std)
        with torch.device("meta"):
            compressor = make_compressor(**dict(self.compressor or {}))
        return compressor.counts(denormalize(torch.as_tensor(pixel_values), mean, std))

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[Sequence[int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Return the tokens and tiles of pages of given sizes, from which serving engines plan their memory.

        The name and the result are transformers', for engines such as vLLM.

        Args:
            image_sizes: Height and width of each page in pixels.
            kwargs: Options of tiling.

        Returns:
            `num_image_tokens`, those around a page included, and `num_image_patches`, one number a page.

        Raises:
            UserError: If tiles differ in number of visual tokens, so that a page's size does not say how many it has.
        """
        if image_sizes is None:
            return MultiModalData()
        if self.compressor is not None and not self.elastic:
            raise UserError(
                "This student's tiles have different numbers of visual tokens, which serving engines cannot plan for.\n"
                "Serve it with `fcot serve` instead."
            )
        tiles = [self.image_processor.get_number_of_image_patches(*size, kwargs) for size in image_sizes]
        tokens = [page_tokens(each, self.image_seq_length) + AROUND for each in tiles]
        return MultiModalData(num_image_tokens=tokens, num_image_patches=tiles)

    def _spans(self, texts: Sequence[str], counts: Sequence[int]) -> list[list[dict[str, str]]]:
        """Return what has replaced each placeholder of each text, in the form that serving engines ask for."""
        pages, placeholder = iter(counts), self._placeholder(texts)
        return [
            [{"type": "image", "replacement": self._span(each)} for each in islice(pages, text.count(placeholder))]
            for text in texts
        ]

    def _span(self, count: int) -> str:
        """Return the text of a page of so many visual tokens."""
        return START + self.image_token * count + END

    def _expand(self, texts: list[str], counts: Sequence[int]) -> list[str]:
        """Repeat each page's placeholder for every visual token."""
        placeholder = self._placeholder(texts)
        found = sum(text.count(placeholder) for text in texts)
        if found != len(counts) and (counts or placeholder == self.image_token):
            raise UserError(
                f"The text has {found} image placeholders and {len(counts)} images were given. "
                f"Write {self.image_token} once for each image."
            )
        if not counts:
            return texts
        spans = iter([self._span(count) for count in counts])
        return [re.sub(re.escape(placeholder), lambda _: next(spans), text) for text in texts]
