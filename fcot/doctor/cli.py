"""The verb `doctor`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

DEFAULT_MODEL = Path(__file__).parents[1] / "tiny" / "teacher"


@dataclass(frozen=True)
class InspectedFolder:
    """A model folder to look at, in place of what the user gave.

    Attributes:
        path: The folder.
        files: Whether it has a model's small files, such as the tokenizer's.
        weights: Whether it has the weights.
        notes: Remarks to print about it.
    """

    path: Path
    files: bool = True
    weights: bool = True
    notes: tuple[str, ...] = ()


def doctor(
    checkpoint: Path = DEFAULT_MODEL,
    page: str = "1700x2200",
    ratio: int = 2,
    max_tiles: int | None = None,
    text_tokens: int = 550,
    num_devices: int | None = None,
) -> None:
    """Report what is installed, what a page and a training step cost, and what would fail later.

    Only configurations, the tokenizer and the headers of the weights are loaded. The exit code is 1 if something is
    wrong.

    Args:
        checkpoint: Model folder (default: the tiny teacher), in either layout, or a size of InternVL2 without one:
            1b, 2b, 8b.
        page: Size of a page in pixels, WIDTHxHEIGHT; the default is a letter page at 200 dpi.
        ratio: How many visual tokens become one; a student has its own.
        max_tiles: Most tiles of a page, thumbnail not counted (default: the model's).
        text_tokens: Tokens of question and answer in a training step.
        num_devices: Devices that DDP and FSDP2 share the work among (default: those here, 8 if there are fewer than 2).
    """
    from fcot.doctor.checks import problems, too_long
    from fcot.doctor.devices import devices
    from fcot.doctor.page import page_cost
    from fcot.doctor.tables import memory_lines, model_lines, page_lines, version_lines
    from fcot.doctor.versions import installed
    from fcot.errors import UserError
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.internvl.page_size import page_size
    from fcot.models.transformers_api import DECODER, STUDENT, require_api
    from fcot.serve.vllm_versions import installed_vllm

    width, height = page_size(page)
    packages = list(installed())
    wrong = [package.problem for package in packages if package.problem]
    here = devices()
    print("\n".join(version_lines(packages, here, installed_vllm())))
    try:
        require_api((*STUDENT, *DECODER))
        with described(checkpoint) as given:
            folder = ModelFolder(given.path)
            own = getattr(folder.config, "ratio", None)
            cost = page_cost(folder, width, height, own or ratio, max_tiles)
            found = list(problems(folder, with_weights=given.weights)) if given.files else []
            if not given.weights:  # a temporary folder, whose path means nothing to the user
                found = [each.replace(str(given.path), str(checkpoint)) for each in found]
            print("\n".join([*model_lines(folder, checkpoint, given.notes), *page_lines(folder, cost, own or ratio)]))
            shared = num_devices or (here.count if here.count > 1 else 8)
            print("\n".join(memory_lines(folder, cost, own or ratio, text_tokens, shared, here)))
            wrong += [*found, *filter(None, [too_long(folder, cost)])]
    except UserError as error:
        wrong.append(str(error).replace("\n", " "))
    print("\nWhat would fail later")
    print("\n".join(f"  - {each}" for each in wrong) or "  nothing was found")
    if wrong:
        raise SystemExit(1)


@contextmanager
def described(checkpoint: Path) -> Iterator[InspectedFolder]:
    """Give a model folder: the user's, or for a size such as "8b" one with its configuration alone.

    A checkpoint in the original layout is looked at as what training converts it to: the conversion that is there
    already, otherwise one without the weights.
    """
    from fcot.convert.auto_convert import is_converted, native_folder, native_place
    from fcot.internvl.sizes import SIZES, write_size

    place = native_place(checkpoint)
    with TemporaryDirectory() as scratch:
        if str(checkpoint) in SIZES and not checkpoint.exists():
            yield InspectedFolder(write_size(str(checkpoint), Path(scratch)), files=False, weights=False)
        elif place is None:
            yield InspectedFolder(checkpoint)
        elif is_converted(place):
            yield InspectedFolder(native_folder(checkpoint), notes=(f"in the original layout; converted to {place}",))
        else:
            from fcot.convert.native import convert_to_native

            done = convert_to_native(checkpoint, Path(scratch) / place.name, with_weights=False)
            first = f"in the original layout: training converts it to {place}, once"
            yield InspectedFolder(done.folder, weights=False, notes=(first, *done.notes))
