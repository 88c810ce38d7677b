"""Shard a student over processes: which weights are gathered together, and when (FSDP2, arXiv 2304.11277).

Each layer of vision tower and language model is a unit, and so is the projector with its compressor; the rest (head,
embeddings, norms) belongs to the container. A layer is gathered while it runs, the container from the forward pass to
the end of the backward pass: the head is gathered once a batch, however many chunks of rows it is applied to.
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
    """Shard the weights of a student without teacher over the processes of a mesh.

    Args:
        pair: The container, the same on every process.
        mesh: One-dimensional.
        dtype: Type in which weights are gathered (default: their own); gradients are summed in fp32.
    """
    # autocast already casts the inputs of layers
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    model: Any = pair.student.model
    last = model.language_model.layers[-1]
    for unit in (*model.vision_tower.encoder.layer, model.multi_modal_projector, *model.language_model.layers):
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    # the last layer runs for some rows only, by a function in `fcot.models.decoder` instead of its forward method
    last.answer_rows = MethodType(last_layer, last)
    register_fsdp_forward_method(last, "answer_rows")
    fully_shard(pair, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for name in ENTRANCES:
        register_fsdp_forward_method(pair, name)
    # no output of a unit is changed in place here
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module \(\w+\) returned a view tensor")
    # or transformers' generate would wait for other processes at each token; here it runs on gathered weights only
    pair.student._is_fsdp_managed_module = False


def is_sharded(module: nn.Module) -> bool:
    """Return whether a container is sharded."""
    return isinstance(module, FSDPModule)


def unshard(pair: nn.Module) -> None:
    """Gather all weights until `reshard`; all processes must call both.

    Between the two calls no process waits for another, so each may run the model any number of times.
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
    """Return the units of gathering, the container first."""
    return [module for module in pair.modules() if isinstance(module, FSDPModule)]
