"""Which weights are gathered together, and when (FSDP2, arXiv 2304.11277).

Each layer of vision tower and language model is a unit, and the projector with its compressor; what is left (head,
embeddings, norms) is the container's own. A layer is whole while it runs. The container is whole from the forward pass
to the end of the backward pass: the head is gathered once a batch, however many chunks of rows it is applied to.
"""

from __future__ import annotations

import warnings
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from fcot.models.decoder import last_layer

if TYPE_CHECKING:
    from fcot.models.student_teacher import StudentTeacher

ENTRANCES = ("student_rows", "answer")  # methods of the container that run the model


def shard(pair: StudentTeacher, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
    """Share the weights of a student without teacher out over the processes of a mesh.

    Args:
        pair: The container, the same on every process.
        mesh: One-dimensional.
        dtype: What weights are gathered in (default: their own); gradients are summed up in fp32.
    """
    # autocast casts what goes into a layer
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    model: Any = pair.student.model
    last = model.language_model.layers[-1]
    for unit in (*model.vision_tower.encoder.layer, model.multi_modal_projector, *model.language_model.layers):
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    # the last layer's parts run for some rows only, outside of its forward method: `fcot.models.decoder`
    last.answer_rows = MethodType(last_layer, last)
    register_fsdp_forward_method(last, "answer_rows")
    fully_shard(pair, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for name in ENTRANCES:
        register_fsdp_forward_method(pair, name)
    # nothing here changes in place what a unit returns
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module \(\w+\) returned a view tensor")
    # transformers' generate would wait for the other processes at each token: here it runs on whole weights only
    pair.student._is_fsdp_managed_module = False


def is_sharded(module: nn.Module) -> bool:
    """Return whether `shard` was called on a container."""
    return isinstance(module, FSDPModule)


def unshard(pair: nn.Module) -> None:
    """Gather all weights and keep them so until `reshard`; all processes must call both.

    Between the two no process waits for another, so each may run the model as often as it has pages, or not at all.
    """
    for unit in _units(pair):
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()


def reshard(pair: nn.Module) -> None:
    """Free the gathered weights."""
    for number, unit in enumerate(_units(pair)):
        unit.set_reshard_after_forward(number > 0, recurse=False)
        unit.reshard()


def _units(pair: nn.Module) -> list[FSDPModule]:
    """Return all that is gathered by itself, the container first."""
    return [module for module in pair.modules() if isinstance(module, FSDPModule)]
