"""The verb `bench merge`: time and memory of merging checkpoints on disk, beside mergekit where it is installed."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcot.bench.merge_checkpoints import Shape, largest_tensor, make_checkpoints
from fcot.bench.output import Table, gigabytes, publish
from fcot.bench.process import Spent, spent_by
from fcot.errors import UserError
from fcot.merge.methods.ties import check_density

METHODS = ("linear", "ties")
STARTED = Shape(layers=1, width=16, vocabulary=16)  # so small that a merge of it is the start of the program


def merge(
    parameters: float = 1e9,
    checkpoints: int = 5,
    width: int = 2048,
    vocabulary: int = 92553,
    density: float = 0.2,
    folder: Path | None = None,
    mergekit: str | None = None,
    json: str | None = None,
) -> None:
    """Measure time and peak memory of a linear and a TIES merge of bf16 checkpoints on disk.

    Each merge is a process that reads folders and writes one, none of it in the page cache before. Its start-up (the
    same on a tiny model) is measured too; peak memory is above that. Linux only.

    Args:
        parameters: Parameters of each checkpoint, about; the number of layers follows from it.
        checkpoints: How many, the base included.
        width: Width of a hidden row.
        vocabulary: Tokens in the vocabulary; embedding and head are the largest tensors.
        density: Share of each delta that TIES keeps.
        folder: Where checkpoints are made, or were made by an earlier call (default: a temporary folder).
        mergekit: Command of mergekit in an environment of its own, such as mergekit-venv/bin/mergekit-yaml (default:
            fcot alone).
        json: File for the results, - for the standard output.

    Raises:
        UserError: If the sizes are unusable, the disk is too small, a merge fails, or this is not Linux.
    """
    shape = Shape.of(parameters, width, vocabulary)
    check_density(density)
    if checkpoints < 2:
        raise UserError(f"checkpoints is {checkpoints}.\nGive 2 or more: a base, and what is merged into it.")
    if not Path("/proc/self/status").exists():
        raise UserError("Peak memory is read from /proc, which this system lacks.\nRun it on Linux.")
    with working_folder(folder) as home:
        needed, free = (checkpoints + 1) * 2 * shape.parameters, shutil.disk_usage(home).free
        large = make_checkpoints(home / "large", shape, checkpoints, lacking=needed - free)
        small = make_checkpoints(home / "small", STARTED, checkpoints)
        programs = {"fcot": None, **({"mergekit": mergekit} if mergekit else {})}
        found: dict[str, Any] = {
            "bench": "merge",
            "parameters": shape.parameters,
            "checkpoints": checkpoints,
            "density": density,
            "largest_tensor_bytes": largest_tensor(shape),
            "device": "cpu",
        }
        for method in METHODS:
            found[method] = {}
            for name, command in programs.items():
                start = measured(small, method, density, command, home)
                whole = measured(large, method, density, command, home)
                found[method][name] = {
                    "seconds": whole.seconds,
                    "start_seconds": start.seconds,
                    "peak_bytes": whole.peak_bytes - start.peak_bytes,
                }
                print(f"{method}, {name}: {whole.seconds:.1f} s", file=sys.stderr, flush=True)
    show(found, json)


def measured(inputs: Sequence[Path], method: str, density: float, mergekit: str | None, home: Path) -> Spent:
    """Merge checkpoints in a process, read from the disk itself, and return what it took.

    Args:
        inputs: The base, then the checkpoints.
        method: linear or ties.
        density: Share of each delta that TIES keeps.
        mergekit: Command of mergekit; None for fcot.
        home: Folder for what is written.
    """
    output = home / "merged"
    shutil.rmtree(output, ignore_errors=True)
    if mergekit is None:
        words = [sys.executable, "-m", "fcot.bench.merge_process", method, str(density), str(output), *map(str, inputs)]
    else:
        config = home / "mergekit.yaml"
        config.write_text(mergekit_config(inputs, method, density), encoding="utf-8")
        words = [mergekit, str(config), str(output), "--no-copy-tokenizer", "--quiet"]
    os.sync()
    for file in (file for folder in inputs for file in folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        return spent_by(words)
    finally:
        shutil.rmtree(output, ignore_errors=True)


def mergekit_config(inputs: Sequence[Path], method: str, density: float) -> str:
    """Return the YAML of the same merge for mergekit, in the bf16 arithmetic that its examples use."""
    base, *others = inputs
    if method == "linear":
        weight = 1 / len(inputs)
        models = [f"- {{model: {folder}, parameters: {{weight: {weight}}}}}" for folder in inputs]
        lines = ["merge_method: linear", "models:", *models]
    else:
        models = [
            f"- {{model: {folder}, parameters: {{weight: 1.0, density: {density}}}}}" for folder in others
        ]  # fmt: skip
        lines = ["merge_method: ties", f"base_model: {base}", "parameters: {normalize: true}", "models:", *models]
    return "\n".join([*lines, "dtype: bfloat16", ""])


def show(found: dict[str, Any], json: str | None) -> None:
    """Print the table, and write the results as JSON."""
    largest = found["largest_tensor_bytes"]
    rows = []
    for method in METHODS:
        ours = found[method]["fcot"]["seconds"]
        for name, spent in found[method].items():
            peak = f"{gigabytes(spent['peak_bytes'])}, {spent['peak_bytes'] / largest:.2f} of the largest tensor"
            share = f"{ours / spent['seconds']:.2f}" if name != "fcot" else ""
            rows.append(
                [f"{method}, {name}", f"{spent['seconds']:.1f} s", f"{spent['start_seconds']:.1f} s", peak, share]
            )
    columns = ("merge", "time", "of which start-up", "peak memory above start-up", "fcot's time / this")
    title = f"{found['checkpoints']} checkpoints of {found['parameters']:,} parameters in bf16, one run each"
    publish(found, [Table(title, columns, rows)], json)


@contextmanager
def working_folder(folder: Path | None) -> Iterator[Path]:
    """Yield the folder, or a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fcot-merge-") as temporary:
        yield Path(temporary)
