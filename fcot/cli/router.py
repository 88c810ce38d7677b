"""The verbs `fcot router …`: fit an elastic student's router, and show what it chooses for a page."""

from itertools import islice
from pathlib import Path
from typing import Any, Literal


def fit(
    student: Path,
    data: Path = Path("data/reading"),
    output: Path | None = None,
    log: Path | None = None,
    pages: int = 2000,
    dev_pages: int = 200,
    passes: int = 2,
    mean_tokens: float | None = None,
    kind: Literal["learned", "ink"] = "learned",
    hidden: int = 64,
    batch_size: int = 16,
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> None:
    """Fit the router of an elastic student, which predicts what each tile of a page costs at each ratio.

    The student reads training pages whole, and some times with a ratio drawn for each tile; the costs of a page's tiles
    shall sum to the KL of its answers. No teacher is needed: whole, a student of re-alignment is its teacher. Fit again
    after post-training. Beside the learned router, a rule of four numbers times a tile's ink is fitted.

    Args:
        student: Folder of the student.
        data: Folder of the sets train and dev, as for fit.
        output: Where to write the student with its router (default: in place).
        log: Folder that the callback MixedPagesLog has written in re-alignment: what its mixed pages cost is taken from
            there, and no training page is read again.
        pages: Training pages.
        dev_pages: Dev pages that fix the price of a visual token for requests of "auto".
        passes: Mixed passes over each training page.
        mean_tokens: Visual tokens that "auto" shall give a dev tile in the mean (default: as at the student's ratio).
        kind: Which router chooses: learned, or ink, the rule, which needs no look at the page by the model.
        hidden: Width of the learned router's network.
        batch_size: Pages read together.
        seed: Of the ratios that are drawn, and of the fit.
        device: Where to run: auto (an accelerator if there is one), cpu, cuda, …
        dtype: Type of the weights; auto keeps the stored type.

    Raises:
        UserError: If the student is not elastic, or there are too few pages.
    """
    from transformers.utils.logging import disable_progress_bar

    from fcot.internvl.checkpoint import ModelFolder
    from fcot.models.branches import STUDENT
    from fcot.models.device import device_of
    from fcot.models.student_teacher import StudentTeacher
    from fcot.training.mixed_log import read_pages
    from fcot.training.mixed_passes import mixed_pages
    from fcot.training.router_fit import fit_both, require_elastic, settings_of
    from fcot.training.saving import save_with_router

    disable_progress_bar()
    folder = ModelFolder(student)
    require_elastic(folder)
    pair = StudentTeacher(folder.path, dtype=dtype).to(device_of(device)).eval()
    if log is None:
        train = batches_of(folder, data, "train", pages, batch_size, seed)
        measured = mixed_pages(pair, train, passes=passes, seed=seed)
    else:
        measured = read_pages(log, pages)
    fitted = fit_both(pair, measured, hidden=hidden, seed=seed)
    dev = list(batches_of(folder, data, "dev", dev_pages, batch_size, seed))
    mean = pair.projector(STUDENT).compressor.max_tokens if mean_tokens is None else mean_tokens
    settings = settings_of(pair, folder, fitted, dev, kind=kind, mean_tokens=mean)
    save_with_router(pair.student, folder.path, output or folder.path, settings, fitted.router)
    passes, losses = len(measured.kl), fitted.losses
    said = f"{losses['before']:.3f} → {losses['after']:.3f}"
    print(f"Fitted to {fitted.pages} pages, {passes} passes each: loss on held-out pages {said}.")
    print(f"Auto: {mean:g} visual tokens a dev tile in the mean; {settings['price']:.3g} KL a token ({kind}).")
    print(f"Saved with the student in {output or folder.path}.")


def batches_of(folder: Any, data: Path, split: str, pages: int, batch_size: int, seed: int) -> Any:
    """Yield batches of a split's pages in which every tile is whole; training pages are shuffled."""
    from fcot.batch import PageLayout
    from fcot.models.branches import STUDENT
    from fcot.models.token_counts import TokenCounts
    from shards.feed.datamodule import Shards

    most = max(TokenCounts(folder.config).choices)
    layout = PageLayout(folder.encoder(), folder.tile_size, folder.max_tiles, {STUDENT: most})
    source = Shards(data, batch_size=batch_size, eval_batch_size=batch_size, num_workers=0, seed=seed)
    training = split == "train"
    loader = source.loader(split, training=training, layout=layout, limit=None if training else pages)
    return islice(iter(loader), -(-pages // batch_size))


def show(
    student: Path,
    page: Path,
    visual_tokens: int | Literal["auto"] | None = None,
    budget: int | None = None,
    max_tiles: int | None = None,
    device: str = "auto",
) -> None:
    """Show what each tile of a page costs by the student's router, and which ratio it gets.

    Args:
        student: Folder of an elastic student with a router.
        page: An image of the page.
        visual_tokens: Visual tokens of each tile (default: auto, unless there is a budget).
        budget: Most visual tokens of the page, instead.
        max_tiles: Most tiles of the page, thumbnail not counted (default: the model's).
        device: Where to run: auto (an accelerator if there is one), cpu, cuda, …

    Raises:
        UserError: If the student has no router, or cannot give what is asked for.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from fcot.errors import UserError
    from fcot.files.markdown import table
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.internvl.decode import open_image
    from fcot.internvl.tiling import cut, grid
    from fcot.models.branches import STUDENT
    from fcot.models.device import device_of
    from fcot.models.student_teacher import StudentTeacher
    from fcot.route import SeenTiles, ink

    folder = ModelFolder(student)
    if not getattr(folder.config, "router", None):
        raise UserError(f"{student} has no router.\nFit one: fcot router fit {student} --data DATA")
    disable_progress_bar()
    picture = open_image(page)
    most = max_tiles or folder.max_tiles
    columns, _ = grid(*picture.size, most, tile_size=folder.tile_size)
    pair = StudentTeacher(folder.path).to(device_of(device)).eval()
    tiles = cut(picture, most, tile_size=folder.tile_size).to(pair.mean.device)
    with torch.no_grad():
        seen = SeenTiles(tiles, [len(tiles)], pair.features(tiles))
    routing = pair.projector(STUDENT).routing
    asked = "auto" if visual_tokens is None and budget is None else visual_tokens
    counts = routing.counts([seen], asked, budget).tolist()
    costs, ratio_of = routing.costs(seen).tolist(), routing.elastic.ratio_of_count
    rows = []
    for number, (tile, each, count) in enumerate(zip(tiles, costs, counts, strict=True)):
        small = bool(seen.thumbnail[number])
        place = "thumbnail" if small else f"row {number // columns + 1}, column {number % columns + 1}"
        predicted = [f"{cost:.4f}" for cost in each[1:]]
        rows.append([place, f"{float(ink(tile[None])):.3f}", *predicted, str(ratio_of[count]), str(count)])
    heads = ["tile", "ink", *(f"KL at ratio {ratio}" for ratio in routing.ratios[1:]), "ratio", "visual tokens"]
    print(table(heads, rows))
    print(f"\n{len(tiles)} tiles, {sum(counts)} visual tokens instead of {len(tiles) * max(ratio_of)}.")
