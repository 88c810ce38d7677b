"""Time and memory of a piece of work on any device."""

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fcot.errors import UserError


@dataclass(frozen=True)
class Spread:
    """What several measurements of one thing gave.

    Attributes:
        median: Of all repeats.
        low: Lowest.
        high: Highest.
        repeats: How often it was measured, after one run that was not.
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarise the repeats."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def json(self) -> dict[str, float]:
        """Return it as plain values."""
        return asdict(self)

    def figures(self, scale: float, digits: int, between: str = " ") -> str:
        """Return the median and, dim, the lowest and highest, for a cell of a table."""
        median, low, high = (f"{scale * value:,.{digits}f}" for value in (self.median, self.low, self.high))
        return f"{median}{between}[dim]{low}\N{EN DASH}{high}[/dim]"

    def mark(self, form: str = ".3g", unit: str = "") -> str:
        """Return the median above the lowest and highest, to stand over a bar of a picture."""
        return f"{self.median:{form}}{unit}\n{self.low:{form}}\N{EN DASH}{self.high:{form}}"


class Timing(Spread):
    """Seconds of one piece of work."""

    def __str__(self) -> str:
        scale, unit, digits = (1, "s", 2) if self.median >= 10 else (1000, "ms", 1 if self.median < 1 else 0)
        return self.figures(scale, digits, between=f" {unit} ")


class Gain(Spread):
    """How many times as fast one piece of work is as another, each run beside the other's of the same turn."""

    @classmethod
    def over(cls, slow: Sequence[float], fast: Sequence[float]) -> Self:
        """Return the gain of the times of one over those of another that ran in turn with it."""
        return cls.of([one / other for one, other in zip(slow, fast, strict=True)])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}\N{EN DASH}{self.high:.2f})"


def seconds(device: torch.device) -> float:
    """Return the time once the device has done all it was given."""
    if on_accelerator(device):
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def in_turn(works: Sequence[Callable[[], Any]], repeats: int) -> list[list[Any]]:
    """Do several pieces of work in turn, A B A B, so that other load on the machine affects all of them alike.

    Times taken at different moments are not comparable: whatever is compared must come from one call of this.

    Returns:
        What each work returned in each repeat, without that of the first turn, which warms up.

    Raises:
        UserError: If there is no repeat.
    """
    if repeats < 1:
        raise UserError(f"repeats is {repeats}.\nGive at least 1.")
    turns = [[work() for work in works] for _ in range(repeats + 1)]
    return [list(results) for results in zip(*turns[1:], strict=True)]


def clocked(work: Callable[[], Any], device: torch.device) -> Callable[[], float]:
    """Return what does some work and returns its seconds."""

    def spent() -> float:
        start = seconds(device)
        work()
        return seconds(device) - start

    return spent


def timed_in_turn(works: Sequence[Callable[[], Any]], device: torch.device, repeats: int) -> list[list[float]]:
    """Return the seconds of several pieces of work in each repeat: see `in_turn`."""
    return in_turn([clocked(work, device) for work in works], repeats)


def on_accelerator(device: torch.device) -> bool:
    """Return whether a device has its own allocator and queue."""
    return device.type not in ("cpu", "meta")


def peak_memory(work: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes of tensors that exist during some work, above those that existed before.

    An accelerator's allocator tells; elsewhere, the meta device included, tensors are counted as operations make
    them, which leaves out what an operation allocates and frees within itself.
    """
    if on_accelerator(device):
        module = torch.get_device_module(device)
        # torch.accelerator's fail with torch_npu's allocator: https://github.com/vllm-project/speculators/pull/1025
        memory = module if hasattr(module, "max_memory_allocated") else torch.accelerator
        torch.accelerator.synchronize(device)
        before = memory.memory_allocated(device)
        memory.reset_peak_memory_stats(device)
        work()
        torch.accelerator.synchronize(device)
        return int(memory.max_memory_allocated(device) - before)
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


class Product:
    """A large matrix product, the fastest work a device can do: other work is compared with its rate.

    Args:
        device: Where to compute.
        dtype: Of the factors.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        side = 8192 if on_accelerator(device) else 2048
        self.flops = 2 * side**3
        self.left, self.right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def __call__(self) -> Tensor:
        """Compute it."""
        return self.left @ self.right

    def rate(self, times: Sequence[float]) -> float:
        """Return the FLOPs a second of the fastest run."""
        return self.flops / min(times)
