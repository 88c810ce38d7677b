"""Load models and serve the page until a signal ends it."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
import uvicorn
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from fcot.look.app import make_app
from fcot.look.desk import Desk, Limits
from fcot.look.reader import load_readers
from fcot.models.device import device_of
from fcot.serve.running import LOCAL, listen, web_config
from fcot.serve.steady_memory import keep_memory_steady


@dataclass(frozen=True)
class Settings:
    """Options of the verb `look`, in its terms."""

    host: str
    port: int
    max_tiles: int | None
    layers: list[int] | None
    device: str
    dtype: str
    threads: int


class PageServer(uvicorn.Server):
    """Ends at a signal without waiting for an answer.

    Args:
        config: Of uvicorn's.
        desk: Whose work ends.
    """

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Give up what is under way, then end."""
        self.desk.reading.closing.set()
        self.desk.answering.closing.set()
        super().handle_exit(sig, frame)


def run(models: Sequence[Path], settings: Settings, limits: Limits) -> None:
    """Serve the page; returns after SIGTERM or Ctrl-C.

    Raises:
        UserError: If a folder, device, host or port cannot be used.
    """
    listening = listen(settings.host, settings.port)
    keep_memory_steady()
    torch.set_num_threads(settings.threads)
    disable_progress_bar()
    desk = load(models, settings, limits)
    web = page_server(desk, settings.host)
    # uvicorn restores these handlers and sends the signal that it caught to them
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: None)
    if settings.host not in LOCAL:
        print("There is no key: whoever reaches this address may ask.", file=sys.stderr)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"Open http://{host}:{listening.getsockname()[1]}/ in a browser.", flush=True)
    web.run(sockets=[listening])


def load(models: Sequence[Path], settings: Settings, limits: Limits) -> Desk:
    """Load models and return what answers about them.

    Raises:
        UserError: If a folder, layer or device cannot be used.
    """
    readers = load_readers(
        models,
        max_tiles=settings.max_tiles,
        layers=settings.layers,
        device=device_of(settings.device),
        dtype=settings.dtype,
    )
    for reader in readers:  # or the first answer's time would have what is done once
        blank = Image.new("RGB", (reader.looker.folder.tile_size,) * 2)
        look = reader.looker.look(blank, "?", max_new_tokens=2, visual_tokens=reader.visual_tokens)
        reader.cost([tile.count for tile in look.places.tiles], look.prompt_tokens, look.new_tokens)
    return Desk(readers, limits)


def page_server(desk: Desk, host: str) -> PageServer:
    """Return what listens for requests."""
    return PageServer(web_config(make_app(desk), desk.limits.seconds, only_here=host in LOCAL), desk)
