"""Ask a model about a page, and see where it looked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import cut, grid, to_rgb
from fcot.internvl.tokens import raster_side
from fcot.look.attention import answer_attention, layers_of
from fcot.look.places import TokenPlaces, tile_tokens
from fcot.models.generation import stop_tokens, until
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.serve.dialogue import Dialogue


@dataclass(frozen=True)
class Look:
    """An answer, and where the model looked for each of its tokens.

    Attributes:
        answer: The answer.
        tokens: Text of each of its tokens; the end token's, which is empty, if the answer is empty.
        attention: Share of each visual token in a row's attention to all of them, mean over heads and layers, fp32
            `[tokens, visual tokens]`; rows sum to 1.
        mass: How much of a row's whole attention is on visual tokens, fp32 `[tokens]`.
        places: Where the visual tokens stand on the page.
    """

    answer: str
    tokens: list[str]
    attention: Tensor
    mass: Tensor
    places: TokenPlaces


class Recorder:
    """A transformers streamer that keeps all ids: those of the prompt come first, then the answer's one by one."""

    def __init__(self) -> None:
        self.prompt: list[int] = []
        self.new: list[int] = []

    def put(self, ids: Tensor) -> None:
        """Take ids."""
        into = self.new if self.prompt else self.prompt
        into += ids.flatten().tolist()

    def end(self) -> None:
        """Nothing is left to do."""


class Looker:
    """A model whose looks can be seen.

    Args:
        folder: Folder of a student or a native InternVL.
        device: Where to run.
        dtype: Type of the weights; "auto" keeps the stored type.
        max_tiles: Most tiles of a page, thumbnail not counted (default: the model's).
        layers: Layers of the language model whose attention is read, from 0 (default: the second half).

    Raises:
        UserError: If there is no such layer.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: torch.device | str = "cpu",
        dtype: str = "auto",
        max_tiles: int | None = None,
        layers: Sequence[int] | None = None,
    ) -> None:
        self.folder, self.device = folder, device
        self.pair = StudentTeacher(folder.path, dtype=dtype).to(device).eval()
        self.max_tiles = max_tiles or folder.max_tiles
        self.layers = layers_of(self.pair.student.model.language_model, layers)

    def look(
        self, page: Image.Image, question: str, *, max_new_tokens: int = 512, visual_tokens: int | str | None = None
    ) -> Look:
        """Ask about a page as `fcot chat` does, greedily.

        Args:
            page: An image of any mode.
            question: The question.
            max_new_tokens: Longest answer in tokens.
            visual_tokens: Asked of each tile of an elastic student (default: its own choice).

        Raises:
            UserError: If the page and its question are longer than the model can read, or it cannot give a tile so many
                visual tokens.
        """
        page = to_rgb(page)
        most, size = self.max_tiles, self.folder.tile_size
        columns, rows = grid(*page.size, most, tile_size=size)
        tiles = cut(page, most, tile_size=size)
        dialogue = Dialogue(
            self.folder,
            [tiles],
            pair=self.pair,
            device=self.device,
            grids=[(columns, rows)],
            visual_tokens=visual_tokens,
        )
        heard = Recorder()
        answer = dialogue.ask(question, max_new_tokens=max_new_tokens, streamer=heard)
        new = until(heard.new, stop_tokens(self.pair))
        attended = answer_attention(dialogue.conversation, heard.prompt, new, self.layers)
        image_id = self.folder.config.image_token_id
        visual = attended[:, torch.tensor(heard.prompt, device=attended.device).eq(image_id).nonzero()[:, 0]].cpu()
        mass = visual.sum(1)
        return Look(
            answer=answer,
            tokens=[str(dialogue.tokenizer.decode([token])) for token in new] or [""],
            attention=visual / mass[:, None],
            mass=mass,
            places=self._places(page.size, (columns, rows), dialogue.counts.tolist()),
        )

    def _places(self, size: tuple[int, int], columns_rows: tuple[int, int], counts: Sequence[int]) -> TokenPlaces:
        side, compressor = raster_side(self.folder.config), TokenCounts(self.folder.config).compressor
        tiles = [tile_tokens(compressor, side, count) for count in counts]
        return TokenPlaces(size, columns_rows, side, tiles)
