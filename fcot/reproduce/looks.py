"""Where answers look: the heat of their attention over a page, several models side by side (FCoT-VL, figure 6)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fcot.errors import UserError
from fcot.look.names import names_of

if TYPE_CHECKING:
    from PIL import Image

    from fcot.report.looks import PageLooks

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
READ = "Read the text."  # what is asked about a page if nothing else is

Asked = tuple[str, "Image.Image", str]  # name of a page, the page, and the question


def looks(
    models: list[Path],
    page: list[Path] | None = None,
    question: list[str] | None = None,
    output: Path = Path("runs/looks"),
    layers: list[int] | None = None,
    max_tiles: int | None = None,
    visual_tokens: list[int] | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> None:
    """Draw where models look on pages while they answer, and how far each agrees with the first.

    Attention of the answer's tokens to visual tokens, mean over heads and layers, is laid over the page: see
    looks.png, and looks.json for the numbers.

    Args:
        models: Folders of students or native InternVLs; the first, such as the teacher, is what others are compared
            with.
        page: An image, or a folder of images; may be given several times (default: three pages are drawn).
        question: What to ask about all pages; given several times, about each page in turn.
        output: Folder of looks.png and looks.json.
        layers: Layers of the language model, from 0, such as [20, 21] (default: the second half).
        max_tiles: Most tiles of a page, thumbnail not counted (default: each model's).
        visual_tokens: Visual tokens of a tile, such as [256, 128, 64]: an elastic student answers once with each.
        max_new_tokens: Longest answer in tokens.
        seed: A different seed draws different pages.
        device: Where to run: auto (an accelerator if there is one), cpu, cuda, …
        dtype: Type of the weights; auto keeps the stored type.
    """
    from transformers.utils.logging import disable_progress_bar

    from fcot.files.json_files import write_json
    from fcot.report.looks import draw_looks

    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}.\nGive at least 1.")
    disable_progress_bar()
    asked = asked_of(page, question, seed)
    names, found = look_all(models, asked, layers, max_tiles, visual_tokens, max_new_tokens, device, dtype)
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "looks.png").write_bytes(draw_looks(names, found))
        write_json(output / "looks.json", {"pages": [as_numbers(names, each) for each in found]})
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}).\nGive another folder as --output.") from error
    print("\n".join(line for each in found for line in summary(names, each)))
    print(f"{output / 'looks.png'}\n{output / 'looks.json'}")


def asked_of(paths: Sequence[Path] | None, questions: Sequence[str] | None, seed: int) -> list[Asked]:
    """Return the pages with what is asked about each.

    Raises:
        UserError: If there is no page, or the numbers of pages and questions differ.
    """
    if paths is None:
        from fcot.reproduce.looks_pages import drawn_pages

        pages = drawn_pages(seed)
    else:
        from fcot.internvl.decode import open_image
        from fcot.internvl.tiling import to_rgb

        pages = [(file.name, to_rgb(open_image(file)), READ) for path in paths for file in files_of(path)]
    if not questions:
        return pages
    if len(questions) not in (1, len(pages)):
        raise UserError(
            f"There are {len(questions)} questions for {len(pages)} pages.\nGive one for all pages, or one for each."
        )
    asked = list(questions) * (len(pages) if len(questions) == 1 else 1)
    return [(name, image, text) for (name, image, _), text in zip(pages, asked, strict=True)]


def files_of(path: Path) -> list[Path]:
    """Return the images in a folder by name, or the path itself if it is no folder.

    Raises:
        UserError: If a folder has none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"There is no image in {path}.\nGive a folder with files that end in {', '.join(SUFFIXES)}.")
    return found


def look_all(
    models: Sequence[Path],
    asked: Sequence[Asked],
    layers: Sequence[int] | None,
    max_tiles: int | None,
    visual_tokens: Sequence[int] | None,
    max_new_tokens: int,
    device: str,
    dtype: str,
) -> "tuple[list[str], list[PageLooks]]":
    """Let each model, one at a time, answer the question about each page; arguments as of `looks`.

    Returns:
        Names of the models, an elastic student once for each number of visual tokens, and what was seen.
    """
    from fcot.convert.auto_convert import native_folder
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.look.heat import agreement, heat_of
    from fcot.look.look import Looker
    from fcot.models.device import device_of
    from fcot.models.token_counts import TokenCounts
    from fcot.report.looks import PageLooks, Seen

    folders = [ModelFolder(native_folder(model)) for model in models]  # a wrong one is found before any answers
    seen: list[list[Seen]] = [[] for _ in asked]
    names = []
    for name, folder in zip(names_of(models), folders, strict=True):
        looker = Looker(folder, device=device_of(device), dtype=dtype, max_tiles=max_tiles, layers=layers)
        elastic = len(TokenCounts(folder.config).choices) > 1
        for number in visual_tokens if elastic and visual_tokens else [None]:
            names.append(name if number is None else f"{name}, {number} visual tokens a tile")
            for (_, image, question), its in zip(asked, seen, strict=True):
                look = looker.look(image, question, max_new_tokens=max_new_tokens, visual_tokens=number)
                heat = heat_of(look)
                its.append(Seen(look, heat, agreement(its[0].heat, heat) if its else None))
        del looker  # or two models would be held while the next one is loaded
    return names, [PageLooks(*each, its) for each, its in zip(asked, seen, strict=True)]


def as_numbers(models: Sequence[str], page: "PageLooks") -> dict[str, Any]:
    """Return what the models made of a page, as JSON takes it."""
    from dataclasses import asdict

    by_model = {}
    for model, seen in zip(models, page.seen, strict=True):
        look, thumbnail = seen.look, seen.heat.thumbnail
        by_model[model] = {
            "answer": look.answer,
            "tokens": look.tokens,
            "attention_on_visual_tokens": [round(float(each), 6) for each in look.mass],
            "visual_tokens": look.attention.shape[1],
            "thumbnail_share": round(seen.heat.thumbnail_share, 6),
            "grid": list(look.places.grid),
            "heat": seen.heat.cells.round(4).tolist(),
            "thumbnail_heat": None if thumbnail is None else thumbnail.round(4).tolist(),
            "agreement_with_first": None if seen.agreement is None else asdict(seen.agreement),
        }
    return {"page": page.name, "size": list(page.page.size), "question": page.question, "models": by_model}


def summary(models: Sequence[str], page: "PageLooks") -> list[str]:
    """Return a line for a page, and one for each model."""
    lines = [f"{page.name}: {page.question}"]
    for model, seen in zip(models, page.seen, strict=True):
        said = f"  {model}: {seen.look.answer!r}, {float(seen.look.mass.mean()):.0%} of the attention on visual tokens"
        if seen.agreement is not None:
            correlation = seen.agreement.correlation
            said += f", correlation {'none' if correlation is None else f'{correlation:.2f}'}"
            said += f", overlap {seen.agreement.overlap:.0%}"
        lines.append(said)
    return lines
