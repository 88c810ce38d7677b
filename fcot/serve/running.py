"""Load a model and serve it until a signal ends it."""

import signal
import socket
import sys
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
from fcot.serve.app import make_app
from fcot.serve.connections import Crowd, most_connections
from fcot.serve.engine import Engine
from fcot.serve.preparing import Limits, Preparer, refuse_penalties
from fcot.serve.server import Door, Server
from fcot.serve.steady_memory import keep_memory_steady
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
    max_held_bytes: int
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
    keep_memory_steady()
    disable_progress_bar()
    server = load(model, settings, reduce)
    web = web_server(server, settings)

    def end(*_: object) -> None:
        web.should_exit = True

    # uvicorn has handlers of its own while it runs; these end it before, and end this process well after it
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)
    if settings.host not in LOCAL and not server.door.key:
        print("There is no key: whoever reaches this address is answered. Set FCOT_API_KEY.", file=sys.stderr)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"{server.door.name} is served at http://{host}:{listening.getsockname()[1]}/v1", flush=True)
    web.run(sockets=[listening])


def load(model: Path, settings: Settings, reduce: tuple[str | None, Mapping[str, Any] | None]) -> Server:
    """Load a model and return what answers requests with it.

    Raises:
        UserError: If the folder, device or reducer cannot be used.
    """
    reducer, folder = reducer_of(*reduce), ModelFolder(native_folder(model))
    pair = StudentTeacher(folder.path, dtype=settings.dtype).to(device_of(settings.device)).eval()
    refuse_penalties(pair.student.generation_config)
    limits = Limits(
        settings.max_pictures, settings.max_pixels, settings.max_tiles or folder.max_tiles, settings.max_new_tokens
    )
    tallies = Tallies()
    rows = RunningRows(pair, SeenPages(pair, reducer, settings.page_bytes), reducer)
    door = Door(
        name=settings.name or folder.path.name,
        key=settings.key,
        max_bytes=settings.max_body_bytes,
        max_held=settings.max_held_bytes,
        max_requests=settings.max_rows + settings.max_waiting,
        seconds=settings.max_seconds,
    )
    engine = Engine(rows, folder.tokenizer, tallies, settings.max_rows)
    return Server(door, Preparer(folder, limits, reducer), engine, tallies)


def web_server(server: Server, settings: Settings) -> uvicorn.Server:
    """Return what listens for requests."""
    alone = settings.host in LOCAL and not server.door.key
    return uvicorn.Server(web_config(make_app(server), settings.max_seconds, only_here=alone))


def web_config(app: Any, seconds: float, *, only_here: bool) -> uvicorn.Config:
    """Return how an app is served: connections bounded, and nothing that a client sends written.

    Args:
        app: A FastAPI app.
        seconds: Of its longest request.
        only_here: Refuse requests that name another host than this machine.
    """
    if only_here:  # or a page in a browser could ask by a name of its own that leads here
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL))
    return uvicorn.Config(
        app,
        http=Crowd(most_connections()).protocol(),
        ws="none",
        access_log=False,
        log_level="error",  # no line for each request that is no HTTP
        timeout_graceful_shutdown=int(seconds) + SECONDS_TO_SEND,
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UserError: If host or port cannot be used.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"{host}:{port} cannot be listened at ({error}).\nGive another --host or --port.") from error
