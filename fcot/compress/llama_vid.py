"""LLaMA-VID: one token of context, found by the question (arXiv 2311.17043)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcot.compress.features import Features, as_features
from fcot.compress.windows import WindowCompressor
from fcot.errors import UserError


def found_by(text: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return what a question finds in each tile, a mean over its words `[tiles, 1, width]`.

    Args:
        text: The words as queries `[tiles, words, width]`.
        keys: `[tiles, tokens, width]`.
        values: `[tiles, tokens, width]`.
        mask: Which of the words count, bool `[tiles, words]`; None for all.
    """
    scores = text @ keys.transpose(1, 2) / keys.shape[2] ** 0.5
    found: Tensor = scores.softmax(-1) @ values
    if mask is None:
        return found.mean(1, keepdim=True)
    weights = mask.to(found)[..., None]
    mean: Tensor = (found * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)
    return mean


class LlamaVid(WindowCompressor):
    """Mean of a compact window, plus what the question finds in the tile; that starts at zero.

    The question is read as the language model's own embeddings, where the original has a text encoder: the turn in
    which the page is shown, without the answer to it. A page's tokens therefore differ from question to question, so
    that neither the features nor the cache of one question serve another, as they do with every other compressor.

    Args:
        ratio: How many tokens become one.
        side: Side of the raster of tokens.
        width: Width of a token.
        language_width: Width of the language model's embeddings.
        context: "residual" adds what is found to all tokens, "token" puts it in front of them as one more token, as in
            the paper; such a student does not start as the pooled one.

    Raises:
        UserError: If context is neither.
    """

    reads_text = True

    def __init__(self, *, ratio: int, side: int, width: int, language_width: int, context: str = "residual") -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        if context not in ("residual", "token"):
            raise UserError(f"context is {context!r}. Use 'residual' or 'token'.")
        self.lead = int(context == "token")
        self.query, self.key = nn.Linear(language_width, width), nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        self.reset_parts()
        self.start_at_zero(self.value)

    def forward(self, tokens: Tensor | Features) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, count, width]`.

        Raises:
            UserError: If there is no text.
        """
        features = as_features(tokens)
        if features.text is None:
            raise UserError("The compressor llama_vid reads the question, and none is given.\nPass on input_ids.")
        text = self.query(features.text.to(self.query.weight.dtype))
        context = found_by(text, self.key(features.tokens), features.tokens, features.text_mask)
        added, content = self.value(context), self.pooled(features.tokens)
        return torch.cat([added, content], dim=1) if self.lead else content + added


class LlamaVidProjector(nn.Module):
    """The projector as published, its text encoder left out: a context token, then content tokens.

    Args:
        width: Width of a patch.
        language_width: Width of a language row.
        grid: Side of the raster of content tokens; 1 for their mean, None for all patches.
    """

    def __init__(self, width: int, language_width: int, grid: int | None) -> None:
        super().__init__()
        self.grid = grid
        self.mlp = nn.Sequential(nn.Linear(width, language_width), nn.GELU(), nn.Linear(language_width, language_width))
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, language_width)

    def forward(self, patches: Tensor, text: Tensor) -> Tensor:
        """Return `[tiles, 1 + content, language_width]`.

        Args:
            patches: A square raster `[tiles, patches, width]`.
            text: What the text encoder makes of the question `[tiles, queries, width]`.
        """
        context = self.value(found_by(text, self.key(patches), patches))
        if self.grid is not None:
            side = int(patches.shape[1] ** 0.5)
            raster = patches.transpose(1, 2).unflatten(2, (side, side))
            patches = functional.avg_pool2d(raster, side // self.grid).flatten(2).transpose(1, 2)
        return torch.cat([context, self.mlp(patches)], dim=1)
