"""The verb `look`."""

from pathlib import Path
from typing import Literal


def look(
    models: list[Path] | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    max_tiles: int | None = None,
    max_new_tokens: int = 256,
    max_seconds: float = 600.0,
    layers: list[int] | None = None,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    threads: int = 1,
) -> None:
    """Show in a browser what compression does to a page: tiles, tokens, answers side by side, and where each looked.

    Give a page of your own and ask; models answer one after another, and are compared with the first. Nothing leaves
    this machine. SIGTERM or Ctrl-C ends it.

    Args:
        models: Folders of students or native InternVLs, given first, such as the teacher and a student (default: the
            tiny ones).
        host: Address to listen at; only this machine reaches the default.
        port: Port to listen at; 0 takes a free one.
        max_tiles: Most tiles of a page, thumbnail not counted (default: each model's).
        max_new_tokens: Longest answer in tokens.
        max_seconds: Longest time of a question to all models, in seconds.
        layers: Layers of the language model whose attention is shown, from 0 (default: the second half).
        device: Where to run: auto (an accelerator if there is one), cpu, cuda, …
        dtype: Type of the weights; auto keeps the stored type.
        threads: Threads of computation on the CPU; on a machine with other work, 1 is fastest.
    """
    from fcot.errors import UserError

    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed.\nInstall what serving needs: pip install 'fcot[serve]'"
        ) from error
    for option, value in {"max_new_tokens": max_new_tokens, "max_seconds": max_seconds, "threads": threads}.items():
        if value < 1:
            raise UserError(f"{option} is {value}.\nGive at least 1.")
    from fcot.look.desk import Limits
    from fcot.look.running import Settings, run

    tiny = Path(__file__).parents[1] / "tiny"
    run(
        models or [tiny / "teacher", tiny / "student"],
        Settings(host, port, max_tiles, layers, device, dtype, threads),
        Limits(max_new_tokens=max_new_tokens, seconds=max_seconds),
    )
