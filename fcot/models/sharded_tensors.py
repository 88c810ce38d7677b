"""Tensors that are shared out over processes, made whole, and shared out again."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with all of its values; of one that is shared out, all processes must call this."""
    full: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory; a plain one is its own part."""
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part


def gathered(tensors: Iterable[tuple[str, Tensor]], *, keep: bool) -> dict[str, Tensor]:
    """Return whole tensors on the CPU, made so one at a time; all processes must call this.

    Args:
        tensors: The same names in the same order on every process.
        keep: Whether this process wants them; the others return nothing.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors:
        full = whole(tensor.detach())
        if keep:
            found[name] = full.cpu()
    return found


def shared_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor shared out as a parameter is; each process has the whole one and takes its own part.

    Args:
        tensor: Of the parameter's shape, the same on every process; one that is shared out already is returned.
        parameter: What it is for; if that is not shared out, neither is the result.
    """
    if isinstance(tensor, DTensor) or not isinstance(parameter, DTensor):
        return tensor
    # without a source nothing is sent
    mesh = parameter.device_mesh
    return distribute_tensor(tensor.to(parameter.device), mesh, parameter.placements, src_data_rank=None)


def scattered(tensors: Mapping[str, Tensor] | None, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that only the first process has on all of them, one at a time; all processes must call this.

    Args:
        tensors: On the first process, whole; None on the others.
        parameters: What some of them are for, by their names or all but the last part of these: of such a tensor, if it
            has the parameter's shape, each process keeps its own part.
    """
    known = [None if tensors is None else {name: (each.shape, each.dtype) for name, each in tensors.items()}]
    distributed.broadcast_object_list(known, src=0)
    assert known[0] is not None
    found: dict[str, Tensor] = {}
    for name, (shape, dtype) in known[0].items():
        like = parameters.get(name, parameters.get(name.rpartition("/")[0]))
        if isinstance(like, DTensor) and like.shape == shape:
            here = torch.empty(shape, dtype=dtype, device=like.device) if tensors is None else tensors[name]
            found[name] = distribute_tensor(here.to(like.device), like.device_mesh, like.placements, src_data_rank=0)
        else:
            sent = [None if tensors is None else tensors[name]]
            distributed.broadcast_object_list(sent, src=0)
            assert sent[0] is not None
            found[name] = sent[0]
    return found


def most_over_processes(count: int, device: torch.device) -> int:
    """Return the largest of all processes' counts; all must call this."""
    counted = torch.tensor(count, device=device)
    distributed.all_reduce(counted, op=distributed.ReduceOp.MAX)
    return int(counted)
