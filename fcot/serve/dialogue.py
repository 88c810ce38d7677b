"""A conversation with a model about some pages, turn by turn."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.prompts import IMAGE
from fcot.internvl.tokens import CONTEXT, END, START, check_placeholders, expand, normalize, tokens_per_tile
from fcot.models.sampling import Sampling
from fcot.models.student import CompressedInternVL, load_student


class Dialogue:
    """A model, pages it has seen, and what was said about them.

    The vision tower sees the pages once, not at every turn.

    Args:
        folder: Folder of a student or a native InternVL.
        pages: Tiles of each page, uint8 `[tiles, 3, S, S]`.
        device: Where to run.
        dtype: Type of the weights; "auto" is as they are stored.

    Attributes:
        model: The model.
        turns: Questions and answers so far.
        tokens_per_tile: Visual tokens of a tile.
    """

    def __init__(
        self, folder: ModelFolder, pages: Sequence[Tensor], *, device: torch.device | str = "cpu", dtype: str = "auto"
    ) -> None:
        self.model: Any = load_student(folder.path, dtype=dtype).to(device).eval()
        self.tokenizer = folder.tokenizer
        self.encoder = folder.encoder()
        self.tokens_per_tile = tokens_per_tile(folder.config, getattr(folder.config, "ratio", 1))
        self.turns: list[tuple[str, str]] = []
        self.tiles = [len(page) for page in pages]
        side = folder.tile_size
        self._pages = torch.cat(list(pages)) if pages else torch.empty(0, 3, side, side, dtype=torch.uint8)
        settings = folder.preprocessing
        mean, std = (torch.tensor(settings[key], device=device) for key in ("image_mean", "image_std"))
        self._visual = self._see(self._pages.to(device), mean, std) if pages else None

    @torch.no_grad()
    def ask(
        self, question: str, *, max_new_tokens: int = 512, streamer: Any = None, sampling: Sampling | None = None
    ) -> str:
        """Ask the next question.

        Args:
            question: What to ask; names of InternVL's image tokens in it are left out.
            max_new_tokens: Longest answer.
            streamer: A transformers streamer that is told each token of the answer as it comes.
            sampling: How to draw the answer; None is greedy.

        Returns:
            The answer, which is part of the conversation from now on. If it is interrupted, the turn is not.

        Raises:
            UserError: If the conversation is longer than the model can read.
        """
        for token in (IMAGE, START, CONTEXT, END):
            question = question.replace(token, "")
        if not self.turns:
            question = f"{IMAGE}\n" * len(self.tiles) + question
        ids = self._ids(question)
        mask = torch.ones_like(ids)
        where = self._positions(ids, mask)
        taken = ids.shape[1] if where is None else int(where[0, -1]) + 1  # the context is of positions
        room = self.encoder.max_length - taken
        if room < 1:
            raise UserError(
                f"The conversation takes {taken} tokens, and the model reads {self.encoder.max_length} at most.\n"
                "Start a new one, with fewer pages or a smaller --max_tiles."
            )
        new = self.model.generate(
            inputs_embeds=self._embed(ids),
            attention_mask=mask,
            position_ids=where,
            max_new_tokens=min(max_new_tokens, room),
            do_sample=False,
            streamer=streamer,
            **(sampling or Sampling()).options(ids.tolist(), [self._pages]),
        )
        answer = str(self.tokenizer.decode(new[0], skip_special_tokens=True))
        self.turns.append((question, answer))
        return answer

    def _positions(self, ids: Tensor, mask: Tensor) -> Tensor | None:
        """Return where a compressed student's tokens stand, None where they simply count up."""
        return self.model.positions(ids, mask) if isinstance(self.model, CompressedInternVL) else None

    def _see(self, tiles: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return the visual tokens of all tiles as language rows `[tiles, tokens, width]`."""
        with torch.no_grad():
            seen: Tensor = self.model.get_image_features(normalize(tiles, mean, std), return_dict=True).pooler_output
        return seen

    def _ids(self, question: str) -> Tensor:
        """Return the ids of the conversation with a question left open `[1, length]`."""
        questions = [*(asked for asked, _ in self.turns), question]
        encoded = self.encoder.prompt(questions, [answer for _, answer in self.turns], self.tiles)
        ids, _ = expand(encoded, self.tokens_per_tile, self.encoder.image_token_id)
        return torch.from_numpy(ids)[None].to(self.model.device)

    def _embed(self, ids: Tensor) -> Tensor:
        """Return embeddings `[1, length, width]`, visual rows at the placeholders."""
        image_id = self.encoder.image_token_id
        check_placeholders(ids, image_id, torch.tensor([sum(self.tiles) * self.tokens_per_tile]), ["the conversation"])
        embeddings: Tensor = self.model.get_input_embeddings()(ids)
        if self._visual is None:
            return embeddings
        return embeddings.masked_scatter((ids == image_id)[..., None], self._visual.to(embeddings.dtype))
