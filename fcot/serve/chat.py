"""The verb `chat`."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

PROMPT = "> "
LAST_WORDS = ("exit", "quit")


def chat(
    model: Path,
    image: list[Path] | None = None,
    question: list[str] | None = None,
    max_tiles: int | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    reduce: str | None = None,
    reduce_options: dict[str, Any] | None = None,
    visual_tokens: int | Literal["auto"] | None = None,
    budget: int | None = None,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> None:
    """Ask a model about pages in a terminal: type a question, and read the answer as it is generated.

    Ctrl-D or "exit" ends the conversation; Ctrl-C stops an answer. With --question nothing is read from the keyboard.

    Args:
        model: Folder of a student, an exported student or a native InternVL.
        image: A page to ask about; may be given several times.
        question: A question to ask instead of reading from the keyboard; may be given several times.
        max_tiles: Most tiles of a page, thumbnail not counted (default: the model's).
        max_new_tokens: Longest answer in tokens.
        temperature: 0 gives the likeliest answer; 1 draws from the model's own distribution.
        top_p: Draw among the likeliest tokens whose probabilities add up to this.
        seed: A different seed draws different answers.
        reduce: Short name of a training-free reducer of visual tokens, such as fastv.
        reduce_options: Options of that reducer; --reduce.keep 0.5 sets one.
        visual_tokens: Visual tokens of each tile, such as 64, 128 or 256, if the model is an elastic student; auto for
            what its router chooses.
        budget: Most visual tokens of all pages together, instead, shared out by the router.
        device: Where to run: auto (an accelerator if there is one), cpu, cuda, …
        dtype: Type of the weights; auto keeps the stored type.
    """
    from transformers.utils.logging import disable_progress_bar

    from fcot.convert.auto_convert import native_folder
    from fcot.errors import UserError
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.internvl.decode import open_image
    from fcot.internvl.tiling import cut, grid

    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}.\nGive at least 1.")
    folder = ModelFolder(native_folder(model))
    pictures = {path: open_image(path) for path in image or []}
    from fcot.models.device import device_of
    from fcot.models.sampling import Sampling
    from fcot.models.token_counts import TokenCounts
    from fcot.reduce import FewerTiles, reducer_of
    from fcot.serve.dialogue import Dialogue
    from fcot.serve.screen import Screen

    sampling, reducer = Sampling(temperature, top_p, seed), reducer_of(reduce, reduce_options)
    most = max_tiles or folder.max_tiles
    size = folder.tile_size
    limits = {
        path: reducer.limit(*picture.size, most, size) if isinstance(reducer, FewerTiles) else most
        for path, picture in pictures.items()
    }
    grids = [grid(*picture.size, limits[path], tile_size=size) for path, picture in pictures.items()]
    pages = {path: cut(picture, limits[path], tile_size=size) for path, picture in pictures.items()}
    disable_progress_bar()
    dialogue = Dialogue(
        folder,
        list(pages.values()),
        device=device_of(device),
        dtype=dtype,
        reducer=reducer,
        grids=grids,
        visual_tokens=visual_tokens,
        budget=budget,
    )
    tokens_a_tile = TokenCounts(folder.config, visual_tokens, budget)
    ratio, routed = tokens_a_tile.ratio_of(dialogue.counts), tokens_a_tile.routed
    limit = "up to " if routed or (tokens_a_tile.varies and len(tokens_a_tile.choices) == 1) else ""
    shown = "routed" if routed else f"ratio {ratio}"
    print(f"{folder.path.name}: {limit}{tokens_a_tile.most_of(dialogue.counts)} visual tokens a tile ({shown})")
    ratios = tokens_a_tile.ratios_of(dialogue.counts).split(dialogue.tiles)
    for (path, page), tokens, its in zip(pages.items(), dialogue.visual_tokens, ratios, strict=True):
        instead = f" instead of {dialogue.encoder.teacher_tokens(len(page))}" if ratio > 1 or routed else ""
        each = f" ({said_of_ratios(its.tolist())})" if routed else ""
        print(f"{path.name}: {len(page)} tiles, {tokens} visual tokens{instead}{each}")
    for asked in given(question) if question else typed():
        try:
            dialogue.ask(asked, max_new_tokens=max_new_tokens, streamer=Screen(dialogue.tokenizer), sampling=sampling)
        except KeyboardInterrupt:
            print("\n(stopped; this turn is forgotten)")


def said_of_ratios(ratios: list[int]) -> str:
    """Return how many of a page's tiles have each ratio, such as "2 at ratio 1, 5 at ratio 4"."""
    number = {ratio: ratios.count(ratio) for ratio in sorted(set(ratios))}
    return ", ".join(f"{count} at ratio {ratio}" for ratio, count in number.items())


def given(questions: list[str]) -> Iterator[str]:
    """Print and yield questions, as if they were typed."""
    for asked in questions:
        print(PROMPT + asked)
        yield asked


def typed() -> Iterator[str]:
    """Yield questions from the keyboard until Ctrl-D, Ctrl-C or "exit"."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives `input` line editing and history where available
    while True:
        try:
            asked = input(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if asked.lower() in LAST_WORDS:
            return
        if asked:
            yield asked
