"""The verb `serve`."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Literal

VLLM_TAKES = ("host", "port", "name", "max_tiles", "max_rows", "max_pictures", "dtype")  # what means the same there


def serve(
    model: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    key_variable: str = "FCOT_API_KEY",
    max_tiles: int | None = None,
    max_new_tokens: int = 512,
    max_rows: int = 32,
    max_waiting: int = 64,
    max_seconds: float = 300.0,
    max_body_mb: int = 32,
    max_held_mb: int = 512,
    max_pictures: int = 16,
    max_pixels: int = 100_000_000,
    page_memory_mb: int = 256,
    reduce: str | None = None,
    reduce_options: dict[str, Any] | None = None,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    threads: int = 1,
    engine: Literal["fcot", "vllm"] = "fcot",
    engine_options: dict[str, Any] | None = None,
) -> None:
    """Answer OpenAI's chat completions over HTTP: many requests together, pictures in the request itself.

    SIGTERM or Ctrl-C answers what has been accepted, then ends.

    Args:
        model: Folder of a student, an exported student or a native InternVL.
        host: Address to listen at; only this machine reaches the default.
        port: Port to listen at; 0 takes a free one.
        name: The model's name for clients (default: the folder's).
        key_variable: Environment variable with a key that clients must send; without a value there is no key.
        max_tiles: Most tiles of a page, thumbnail not counted (default: the model's).
        max_new_tokens: Longest answer in tokens.
        max_rows: Most requests answered together.
        max_waiting: Most requests that are read or wait besides; further ones get status 429.
        max_seconds: Longest time of a request, in seconds.
        max_body_mb: Most megabytes of a request.
        max_held_mb: Most megabytes of bodies and cut pages that are read or wait; further ones get status 429.
        max_pictures: Most pictures of a request.
        max_pixels: Most pixels of all pictures of a request.
        page_memory_mb: Megabytes for what was seen of pages, which saves the vision tower on pages asked about again.
        reduce: Short name of a training-free reducer of visual tokens, such as fastv.
        reduce_options: Options of that reducer; --reduce.keep 0.5 sets one.
        device: Where to run: auto (an accelerator if there is one), cpu, cuda, …
        dtype: Type of the weights; auto keeps the stored type.
        threads: Threads of computation on the CPU; on a machine with other work, 1 is fastest.
        engine: What answers: fcot's own server, or vLLM's, which must be installed where this runs.
        engine_options: Further options of vLLM by name, such as {"tensor-parallel-size": 2}.
    """
    given = dict(locals())
    import os

    from fcot.errors import UserError

    if engine == "vllm":
        return serve_by_vllm(given)
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed.\nInstall what serving needs: pip install 'fcot[serve]'"
        ) from error
    from fcot.serve.running import Settings, run

    at_least = {"max_new_tokens": max_new_tokens, "max_rows": max_rows, "max_body_mb": max_body_mb, "threads": threads}
    for option, value in {**at_least, "max_pixels": max_pixels, "max_seconds": max_seconds}.items():
        if value < 1:
            raise UserError(f"{option} is {value}.\nGive at least 1.")
    settings = Settings(
        host=host,
        port=port,
        name=name,
        key=os.environ.get(key_variable, ""),
        max_tiles=max_tiles,
        max_new_tokens=max_new_tokens,
        max_rows=max_rows,
        max_waiting=max(0, max_waiting),
        max_seconds=max_seconds,
        max_body_bytes=max_body_mb * 1_000_000,
        max_held_bytes=max(max_held_mb, max_body_mb) * 1_000_000,
        max_pictures=max(0, max_pictures),
        max_pixels=max_pixels,
        page_bytes=max(0, page_memory_mb) * 1_000_000,
        device=device,
        dtype=dtype,
        threads=threads,
    )
    run(model, settings, (reduce, reduce_options))


def serve_by_vllm(given: Mapping[str, Any]) -> None:
    """Start vLLM with the options of `serve`.

    Raises:
        UserError: If an option is given that vLLM has not, or vLLM cannot serve the model.
    """
    import os

    from fcot.errors import UserError
    from fcot.serve.vllm import VllmSettings, start

    changed = [name for name, each in signature(serve).parameters.items() if given[name] != each.default]
    others = sorted({*changed} - {*VLLM_TAKES, "model", "key_variable", "engine", "engine_options"})
    if others:
        raise UserError(
            f"--{' and --'.join(others)} can only be given to fcot's own server.\n"
            "Leave them out, or use vLLM's own by --engine_options."
        )
    options = {name.replace("_", "-"): value for name, value in (given["engine_options"] or {}).items()}
    key = os.environ.get(given["key_variable"], "")
    start(given["model"], VllmSettings(**{each: given[each] for each in VLLM_TAKES}, key=key, engine_options=options))
