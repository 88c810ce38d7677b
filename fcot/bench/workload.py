"""What is measured: models of random weights at real shapes, and pages made up for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import AttentionInterface

from fcot.batch import Batch, Sequences
from fcot.errors import UserError, nearest
from fcot.internvl.encoder import IGNORED, Encoded, expand
from fcot.internvl.sizes import SIZES, write_size
from fcot.models.decoder import packed_attention
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts

TEXT_IDS = 256  # made-up text uses the first ids of a vocabulary, none of which is special


@dataclass(frozen=True)
class Pages:
    """A batch of equal pages with equally long texts.

    Attributes:
        tiles: Tiles of a page.
        prompt: Text tokens before the answer, `<img>` and `</img>` counted.
        answer: Answer tokens.
        batch: Pages in the batch.

    Raises:
        UserError: If there is nothing to measure.
    """

    tiles: int
    prompt: int
    answer: int
    batch: int = 1

    def __post_init__(self) -> None:
        for name, least in (("tiles", 0), ("prompt", 1), ("answer", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}.\nGive at least {least}.")

    def of(self, configs: dict[str, Any], tokens: dict[str, Tensor] | None = None) -> Batch:
        """Return the batch on the CPU.

        Args:
            configs: Configuration of the model that reads each branch: `{"teacher": …, "student": …}`.
            tokens: Visual tokens of each tile by branch `[tiles]` (default: what the configuration gives).
        """
        side = next(iter(configs.values())).vision_config.image_size[0]
        random = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (self.batch * self.tiles, 3, side, side), generator=random, dtype=torch.uint8)
        counts = tokens or {name: TokenCounts(config)(pixels) for name, config in configs.items()}
        return Batch(
            keys=[f"page {number}" for number in range(self.batch)],
            tasks=["text"] * self.batch,
            questions=[""] * self.batch,
            references=[[""]] * self.batch,
            num_tiles=torch.full((self.batch,), self.tiles),
            tiles=pixels,
            sequences={name: self._sequences(config, counts[name]) for name, config in configs.items()},
            tile_tokens=counts,
            grids=[[(max(1, self.tiles - 1), 1)] if self.tiles else []] * self.batch,
        )

    def _sequences(self, config: Any, counts: Tensor) -> Sequences:
        """Return half of the prompt, the visual tokens, the other half, and the answer."""
        image_id, end = config.image_token_id, config.text_config.eos_token_id
        random = np.random.default_rng(0)
        ids = random.integers(0, TEXT_IDS, self.prompt + self.answer)
        if isinstance(end, int):
            ids[max(self.prompt // 2, self.prompt - 2)] = end  # some compressors look for the end of the question
        labels = np.where(np.arange(len(ids)) < self.prompt, IGNORED, ids)
        if self.tiles:
            ids, labels = (
                np.insert(row, self.prompt // 2, value) for row, value in ((ids, image_id), (labels, IGNORED))
            )
        encoded = Encoded(ids, labels, (self.tiles,) if self.tiles else ())
        rows = [expand(encoded, each, image_id) for each in counts.split([self.tiles] * self.batch)]
        return Sequences.padded(rows, 0, [ids[: -self.answer] for ids, _ in rows])


@contextmanager
def model_folder(model: str) -> Iterator[Path]:
    """Give a folder with the configuration of a named size, or the user's own model folder.

    Raises:
        UserError: If the model is neither.
    """
    if model in SIZES:
        with TemporaryDirectory() as folder:
            yield write_size(model, Path(folder))
    elif Path(model).is_dir():
        yield Path(model)
    else:
        raise UserError(f"There is no size and no folder {model!r}.{nearest(model, SIZES)}")


def random_pair(folder: Path, device: torch.device, dtype: torch.dtype, **student: Any) -> StudentTeacher:
    """Build student and teacher of random weights on a device, the projector alone learning.

    Args:
        folder: Where the configuration is.
        device: Where the weights live; on the meta device they only have shapes.
        dtype: Of frozen parameters; trainable ones are fp32.
        student: Compressor, ratios and placement of the students; none for the teacher alone.
    """
    with torch.device(device):
        pair = StudentTeacher(folder, from_scratch=True, **student)
    pair.train_parts("projector")
    pair.keep_frozen_in(dtype)
    if device.type == "meta":
        let_run_on_meta(pair)
    return pair.train()


def let_run_on_meta(pair: StudentTeacher) -> None:
    """Keep transformers from looking at positions, which have no values on the meta device.

    It looks at them for sequences packed in a row, to leave the causal mask out if there are none, and for
    positions beyond the model's range, which would change the frequencies of a dynamic rope.
    """
    language = pair.student.model.language_model
    AttentionInterface.register("sdpa_without_mask", packed_attention)
    language.set_attn_implementation("sdpa_without_mask")  # masks are made for known implementations only
    language.rotary_emb.rope_type = "default"


def find_device(name: str | None) -> torch.device:
    """Return a device by name, by default this machine's accelerator or else its CPU.

    Raises:
        UserError: If there is no such device.
    """
    if name is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"There is no device {name!r} here ({error}).\nUse cpu, meta, or leave --device out."
        ) from error
    return device


def numbers(text: str) -> list[int]:
    """Return the whole numbers of a list such as "1,2,4".

    Raises:
        UserError: If it is none.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{text!r} is no list of whole numbers.\nGive one such as 1,2,4.") from error


def page_image(width: int, height: int) -> Image.Image:
    """Draw a page of lines that look like words, the same each time."""
    random = np.random.default_rng(0)
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for top in range(60, height - 60, 28):
        left = 60
        while left < width - 160:
            length = int(random.integers(10, 100))
            draw.rectangle((left, top, left + length, top + 14), fill=(int(random.integers(0, 80)),) * 3)
            left += length + 12
    return page
