"""Ask a model about a page, and see where it looked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

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
        prompt_tokens: How many tokens the language model read, visual ones included.
        new_tokens: How many it generated, an end token included.
        seconds: Time of the answer, from the tiles to its last token; attention is read after that.
    """

    answer: str
    tokens: list[str]
    attention: Tensor
    mass: Tensor
    places: TokenPlaces
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CutPage:
    """A page as a model sees it.

    Attributes:
        size: Width and height in pixels.
        grid: Columns and rows of its tiles.
        tiles: The tiles, the thumbnail last if there is one, uint8 `[tiles, 3, S, S]`.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    tiles: Tensor


class Recorder:
    """A transformers streamer that keeps all ids: those of the prompt come first, then the answer's one by one.

    Args:
        on_token: Is called before each id is kept; what it raises ends the answer.
    """

    def __init__(self, on_token: Callable[[], None] | None = None) -> None:
        self.prompt: list[int] = []
        self.new: list[int] = []
        self.on_token = on_token

    def put(self, ids: Tensor) -> None:
        """Take ids."""
        if self.on_token is not None:
            self.on_token()
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

    def cut(self, page: Image.Image) -> CutPage:
        """Cut a page, an image of any mode, into the model's tiles."""
        page = to_rgb(page)
        most, size = self.max_tiles, self.folder.tile_size
        return CutPage(page.size, grid(*page.size, most, tile_size=size), cut(page, most, tile_size=size))

    def look(
        self,
        page: Image.Image | CutPage,
        question: str,
        *,
        max_new_tokens: int = 512,
        visual_tokens: int | str | None = None,
        on_token: Callable[[], None] | None = None,
    ) -> Look:
        """Ask about a page as `fcot chat` does, greedily.

        Args:
            page: An image of any mode, or what `cut` made of it.
            question: The question.
            max_new_tokens: Longest answer in tokens.
            visual_tokens: Asked of each tile of an elastic student (default: its own choice).
            on_token: Is called at each token of the answer; what it raises ends the answer.

        Raises:
            UserError: If the page and its question are longer than the model can read, or it cannot give a tile so many
                visual tokens.
        """
        page = page if isinstance(page, CutPage) else self.cut(page)
        heard, begun = Recorder(on_token), perf_counter()
        dialogue = Dialogue(
            self.folder,
            [page.tiles],
            pair=self.pair,
            device=self.device,
            grids=[page.grid],
            visual_tokens=visual_tokens,
        )
        answer = dialogue.ask(question, max_new_tokens=max_new_tokens, streamer=heard)
        seconds = perf_counter() - begun
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
            places=self.places(page, dialogue.counts.tolist()),
            prompt_tokens=len(heard.prompt),
            new_tokens=len(heard.new),
            seconds=seconds,
        )

    def places(self, page: CutPage, counts: Sequence[int]) -> TokenPlaces:
        """Return where the visual tokens of a page stand, given how many each of its tiles has."""
        side, compressor = raster_side(self.folder.config), TokenCounts(self.folder.config).compressor
        return TokenPlaces(page.size, page.grid, side, [tile_tokens(compressor, side, count) for count in counts])
