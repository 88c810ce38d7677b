"""Gather sharded tensors, and shard or scatter them again."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor; if it is sharded, all processes must call this."""
    full: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full


def local(tensor: Tensor) -> Tensor:
    """Return this process's shard, which shares the tensor's memory; a plain tensor is returned as it is."""
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part


def gathered(tensors: Iterable[tuple[str, Tensor]], *, keep: bool) -> dict[str, Tensor]:
    """Gather full tensors on the CPU, one at a time; all processes must call this.

    Args:
        tensors: The same names in the same order on every process.
        keep: Whether this process keeps them; otherwise it returns an empty dictionary.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors:
        full = whole(tensor.detach())
        if keep:
            found[name] = full.cpu()
    return found


def shared_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Shard a tensor as a parameter is; every process has the full tensor and takes its own shard.

    Args:
        tensor: Of the parameter's shape, the same on every process; returned as it is if already sharded.
        parameter: The parameter it is for; if that is not sharded, neither is the result.
    """
    if isinstance(tensor, DTensor) or not isinstance(parameter, DTensor):
        return tensor
    # without a source rank nothing is sent
    mesh = parameter.device_mesh
    return distribute_tensor(tensor.to(parameter.device), mesh, parameter.placements, src_data_rank=None)


def scattered(tensors: Mapping[str, Tensor] | None, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Send the first process's tensors to all processes, one at a time; all processes must call this.

    Args:
        tensors: Full tensors on the first process; None on the others.
        parameters: Parameters by name. A tensor named NAME or NAME/… is sharded like parameter NAME if it has the same
            shape; all others are copied to every process.
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
    """Return the largest count of all processes; all must call this."""
    counted = torch.tensor(count, device=device)
    distributed.all_reduce(counted, op=distributed.ReduceOp.MAX)
    return int(counted)
