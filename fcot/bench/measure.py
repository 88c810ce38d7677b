"""Time and memory of a piece of work on any device."""

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece of work.

    Attributes:
        median: Of all repeats.
        low: Shortest.
        high: Longest.
        repeats: How often it was measured, after one run that was not.
    """

    median: float
    low: float
    high: float
    repeats: int

    @staticmethod
    def of(seconds: list[float]) -> "Timing":
        """Summarise the repeats."""
        return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds))

    def json(self) -> dict[str, float]:
        """Return it as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        scale, unit, digits = (1, "s", 2) if self.median >= 10 else (1000, "ms", 1 if self.median < 1 else 0)
        median, low, high = (f"{scale * value:,.{digits}f}" for value in (self.median, self.low, self.high))
        return f"{median} {unit} [dim]{low}\N{EN DASH}{high}[/dim]"


def seconds(device: torch.device) -> float:
    """Return the time once the device has done all it was given."""
    if on_accelerator(device):
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> Timing:
    """Time some work, after one run to warm up."""
    return timed_in_turn([work], device, repeats)[0]


def timed_in_turn(works: Sequence[Callable[[], Any]], device: torch.device, repeats: int) -> list[Timing]:
    """Time several pieces of work, each after one run to warm up; in turn, so that drift meets all alike."""
    spent: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, times in zip(works, spent, strict=True):
            start = seconds(device)
            work()
            times.append(seconds(device) - start)
    return [Timing.of(times[1:]) for times in spent]


def on_accelerator(device: torch.device) -> bool:
    """Return whether a device has an allocator and a queue of its own."""
    return device.type not in ("cpu", "meta")


def peak_memory(work: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes of tensors that exist during some work, above those that existed before.

    An accelerator's allocator tells; elsewhere, the meta device included, tensors are counted as operations make
    them, which leaves out what an operation allocates and frees within itself.
    """
    if on_accelerator(device):
        torch.accelerator.synchronize(device)
        before = torch.accelerator.memory_allocated(device)
        torch.accelerator.reset_peak_memory_stats(device)
        work()
        torch.accelerator.synchronize(device)
        return int(torch.accelerator.max_memory_allocated(device) - before)
    with LiveTensors() as live:
        work()
    peak: int = live.peak
    return peak


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that operations make, for as long as these exist."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made; views and results in place are not new."""
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage(), given)
        return out

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in given or key in self.known:
            return
        self.known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def weight_bytes(*modules: nn.Module) -> int:
    """Return the bytes of all parameters, shared ones once."""
    unique = {id(tensor): tensor for module in modules for tensor in module.parameters()}
    return sum(tensor.nbytes for tensor in unique.values())


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOPs a second of a large matrix product, which nothing on this device outdoes."""
    side = 8192 if on_accelerator(device) else 2048
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best: float = 2 * side**3 / timed(lambda: left @ right, device, repeats=5).low
    return best
