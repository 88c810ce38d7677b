"""Load a model and serve it until a signal ends it."""

import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from transformers.utils.logging import disable_progress_bar

from fcot.convert.auto_convert import native_folder
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.device import device_of
from fcot.models.running_rows import RunningRows
from fcot.models.seen_pages import SeenPages
from fcot.models.student_teacher import StudentTeacher
from fcot.reduce import reducer_of
from fcot.serve.app import Door, Server, make_app
from fcot.serve.engine import Engine
from fcot.serve.preparing import Limits, Preparer, refuse_penalties
from fcot.serve.tallies import Tallies

LOCAL = ("127.0.0.1", "localhost")
SECONDS_TO_SEND = 30  # after the longest request, for clients that read slowly


@dataclass(frozen=True)
class Settings:
    """Options of the verb `serve`, in its terms."""

    host: str
    port: int
    name: str | None
    key: str
    max_tiles: int | None
    max_new_tokens: int
    max_rows: int
    max_waiting: int
    max_seconds: float
    max_body_bytes: int
    max_pictures: int
    max_pixels: int
    page_bytes: int
    device: str
    dtype: str
    threads: int


def run(model: Path, settings: Settings, reduce: tuple[str | None, Mapping[str, Any] | None]) -> None:
    """Serve a model folder; returns after SIGTERM or Ctrl-C, when all that was accepted is answered.

    Raises:
        UserError: If the folder, device, reducer, host or port cannot be used.
    """
    listening = listen(settings.host, settings.port)
    torch.set_num_threads(settings.threads)
    disable_progress_bar()
    reducer, folder = reducer_of(*reduce), ModelFolder(native_folder(model))
    pair = StudentTeacher(folder.path, dtype=settings.dtype).to(device_of(settings.device)).eval()
    refuse_penalties(pair.student.generation_config)
    limits = Limits(
        settings.max_pictures, settings.max_pixels, settings.max_tiles or folder.max_tiles, settings.max_new_tokens
    )
    tallies, preparer = Tallies(), Preparer(folder, limits, reducer)
    engine = Engine(
        RunningRows(pair, SeenPages(pair, reducer, settings.page_bytes), reducer),
        folder.tokenizer,
        tallies,
        settings.max_rows,
    )
    name = settings.name or folder.path.name
    requests = settings.max_rows + settings.max_waiting
    door = Door(name, settings.key, settings.max_body_bytes, requests, settings.max_seconds)
    app = make_app(Server(door, preparer, engine, tallies))
    if settings.host in LOCAL:  # or a page in a browser could ask by a name of its own that leads here
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL))
    config = uvicorn.Config(
        app,
        http="h11",  # which bounds the bytes of headers
        ws="none",
        access_log=False,  # nothing that a client sends is written in full
        log_level="warning",
        timeout_graceful_shutdown=int(settings.max_seconds) + SECONDS_TO_SEND,
    )
    # uvicorn raises the signal again when all is answered, and this process is then to end well
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    print(f"{name} is served at http://{settings.host}:{listening.getsockname()[1]}/v1", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UserError: If host or port cannot be used.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"{host}:{port} cannot be listened at ({error}).\nGive another --host or --port.") from error
