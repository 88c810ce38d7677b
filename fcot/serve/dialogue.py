"""A conversation with a model about some pages, turn by turn."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcot.errors import SampleError, UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import expand
from fcot.internvl.prompts import IMAGE
from fcot.internvl.tokens import sums_by_sample
from fcot.models.branches import STUDENT
from fcot.models.conversation import Conversation
from fcot.models.sampling import Sampling
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.reduce import Reducer
from fcot.route import SeenTiles


class Dialogue:
    """A model, pages it has seen, and the questions and answers about them.

    The vision tower sees the pages once, and each turn reuses the cache of earlier ones.

    Args:
        folder: Folder of a student or a native InternVL.
        pages: Tiles of each page, uint8 `[tiles, 3, S, S]`.
        pair: The folder's model, if it is already loaded, on `device`.
        device: Where to run.
        dtype: Type of the weights; "auto" keeps the stored type.
        reducer: Drops or merges visual tokens.
        grids: Columns and rows of the tiles of each page.
        visual_tokens: Asked of each tile of an elastic student; "auto" leaves that to its router.
        budget: Most visual tokens of all pages together, instead.

    Attributes:
        turns: Questions and answers so far.
        visual_tokens: Visual tokens of each page.
    """

    def __init__(
        self,
        folder: ModelFolder,
        pages: Sequence[Tensor],
        *,
        pair: StudentTeacher | None = None,
        device: torch.device | str = "cpu",
        dtype: str = "auto",
        reducer: Reducer | None = None,
        grids: Sequence[tuple[int, int]] = (),
        visual_tokens: int | str | None = None,
        budget: int | None = None,
    ) -> None:
        self.pair = pair or StudentTeacher(folder.path, dtype=dtype).to(device).eval()
        self.tokenizer = folder.tokenizer
        self.encoder = folder.encoder()
        self.turns: list[tuple[str, str]] = []
        side, self.tiles = folder.tile_size, [len(page) for page in pages]
        tiles = torch.cat([torch.empty(0, 3, side, side, dtype=torch.uint8), *pages])
        counts, tiles = TokenCounts(folder.config, visual_tokens, budget), tiles.to(device)
        self.counts, features = counts(tiles), None
        if counts.routed:
            routing = self.pair.projector(STUDENT).routing
            features = self._features(tiles) if routing.learned else None
            self.counts = routing.counts([SeenTiles(tiles, self.tiles, features)], visual_tokens, budget)
        self.visual_tokens: list[int] = sums_by_sample(
            self.counts, torch.tensor(self.tiles, dtype=torch.int64)
        ).tolist()
        self.conversation = Conversation(self.pair, tiles, self.counts, reducer=reducer, grids=grids, features=features)

    @torch.no_grad()
    def _features(self, tiles: Tensor) -> Tensor:
        return self.pair.features(tiles)

    def ask(
        self, question: str, *, max_new_tokens: int = 512, streamer: Any = None, sampling: Sampling | None = None
    ) -> str:
        """Ask the next question.

        Args:
            question: The question; control tokens and `<image>` in it are text.
            max_new_tokens: Longest answer in tokens.
            streamer: A transformers streamer, which receives the tokens of the answer one by one.
            sampling: How to draw the answer; None is greedy.

        Returns:
            The answer; question and answer join the conversation, unless the answer is interrupted.

        Raises:
            UserError: If the conversation is longer than the model can read.
        """
        if not self.turns:
            question = f"{IMAGE}\n" * len(self.tiles) + question
        ids = self._ids(question)
        where = self.pair.positions("student", ids, torch.ones_like(ids), self.counts)
        taken = ids.shape[1] if where is None else int(where[0, -1]) + 1  # the limit is on positions
        room = self.encoder.max_length - taken
        if room < 1:
            raise UserError(
                f"The conversation takes {taken} tokens, and the model reads {self.encoder.max_length} at most.\n"
                "Start a new one, with fewer pages or a smaller --max_tiles."
            )
        new = self.conversation.answer(
            ids[0].tolist(), sampling, max_new_tokens=min(max_new_tokens, room), streamer=streamer
        )
        answer = str(self.tokenizer.decode(new, skip_special_tokens=True))
        self.turns.append((question, answer))
        return answer

    def _ids(self, question: str) -> Tensor:
        """Return the ids of the conversation up to the answer to this question `[1, length]`."""
        questions = [*(asked for asked, _ in self.turns), question]
        try:
            encoded = self.encoder.prompt(questions, [answer for _, answer in self.turns], self.tiles)
        except SampleError as error:
            raise UserError(f"The question cannot be asked: {error}.\nAsk it without control tokens.") from error
        ids, _ = expand(encoded, self.counts, self.encoder.image_token_id)
        return torch.from_numpy(ids)[None]
