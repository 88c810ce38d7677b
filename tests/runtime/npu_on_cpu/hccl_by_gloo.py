"""The process group "hccl" of the device of this folder: gloo, on the bytes that the device has in host memory."""

import torch
from host_memory import to_host
from torch import distributed
from torch.utils._pytree import tree_map_only


class HostGroup(distributed.ProcessGroup):
    """Hands tensors of the device to gloo as the CPU's; gloo writes its results into the same bytes."""

    def __init__(self, store, rank, size, timeout):
        super().__init__(rank, size)
        self.gloo = distributed.ProcessGroupGloo(store, rank, size, timeout)

    def getBackendName(self):
        """Return the name."""
        return "hccl"

    def allreduce(self, tensors, options):
        """Reduce tensors; of a mean, the sum is divided afterwards, as torch_npu does it for HCCL."""
        mean = options.reduceOp == distributed.ReduceOp.AVG
        if mean:
            options.reduceOp = distributed.ReduceOp.SUM
        work = self.gloo.allreduce([to_host(tensor) for tensor in tensors], options)
        if mean:
            work.wait()
            for tensor in tensors:
                tensor.copy_(tensor / self.size())
        return work

    def _get_backend(self, device):
        """Return what torch asks whether it can split a group."""
        return self.gloo


def collective(name):
    """Return a collective by its name in c10d."""

    def run(self, *args, **options):
        return getattr(self.gloo, name)(*tree_map_only(torch.Tensor, to_host, args), **options)

    return run


for name in ("allreduce_coalesced", "broadcast", "allgather", "_allgather_base", "gather", "scatter", "barrier"):
    setattr(HostGroup, name, collective(name))


def register():
    """Make it known under the name by which torch_npu registers HCCL."""
    distributed.Backend.register_backend("hccl", HostGroup, devices=["npu"])
