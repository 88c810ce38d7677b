"""FSDP2 as a strategy of Lightning's Trainer, with the checkpoints of every other strategy."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from fcot.errors import UserError
from fcot.models.sharded_tensors import gathered, scattered, whole
from fcot.runtime.checkpoints.exact_resume import GRADIENTS
from fcot.runtime.checkpoints.tree import put_together, take_apart


class FSDP2Strategy(ModelParallelStrategy):
    """Shards weights, gradients and optimizer states of a post-training over all processes.

    Unlike Lightning's own strategy it saves whole tensors through the Trainer's checkpoint plugin, so a run may
    resume under another strategy, or on another number of processes.

    Args:
        data_parallel_size: How many processes share (default: all).
        process_group_backend: Of torch.distributed (default: the device's own).
        timeout: How long a process waits for the others.
    """

    def __init__(
        self,
        data_parallel_size: Literal["auto"] | int = "auto",
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(data_parallel_size, 1, False, process_group_backend, timeout)

    def setup_environment(self) -> None:
        """Join the processes; Lightning's "auto" would be one share for each node."""
        if self._data_parallel_size == "auto":
            self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def _get_process_group_backend(self) -> str:
        """Return the backend; Lightning knows none for devices that are not its own."""
        return self._process_group_backend or distributed.get_default_backend_for_device(self.root_device)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning hands optimizer states of a checkpoint to `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the module's whole tensors on the first process, nothing on the others."""
        assert self.lightning_module is not None
        return gathered(self.lightning_module.state_dict().items(), keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimizer's whole state on the first process, without its tensors on the others."""
        keep = self.is_global_zero

        def gather(tensor: Tensor) -> Tensor | None:
            full = whole(tensor.detach())
            return full.cpu() if keep else None

        plain: Optimizer = getattr(optimizer, "_optimizer", optimizer)  # out of Lightning's wrapper
        state: dict[str, Any] = tree_map_only(Tensor, gather, plain.state_dict())
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write a checkpoint on the first process, by the Trainer's checkpoint plugin."""
        super(ModelParallelStrategy, self).save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; only the first process holds whole tensors, and it scatters their shards."""
        read = partial(super(ModelParallelStrategy, self).load_checkpoint, checkpoint_path, weights_only)
        assert self.lightning_module is not None
        own = dict(self.lightning_module.named_parameters())
        if not any(isinstance(each, DTensor) for each in own.values()):
            return read()
        plain, tensors, error = None, None, None
        if self.is_global_zero:
            try:
                plain, tensors = take_apart(read())
                # `ExactResume` keeps those of each process
                tensors |= {name: each.mean(0) for name, each in tensors.items() if name.startswith(f"{GRADIENTS}/")}
            except UserError as found:
                error = found
        if self.reduce_boolean_decision(error is not None, all=False):
            raise error or UserError(f"The first process could not read {checkpoint_path}.\nIts own message says why.")
        parameters = {f"{part}/{name}": each for name, each in own.items() for part in ("state_dict", GRADIENTS)}
        for place, optimizer in enumerate(self.optimizers):
            learned = [each for group in optimizer.param_groups for each in group["params"]]
            parameters |= {f"optimizer_states/{place}/state/{number}": each for number, each in enumerate(learned)}
        state: dict[str, Any] = put_together(self.broadcast(plain), scattered(tensors, parameters))
        return state

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take the weights of a checkpoint; Lightning's own has done so when it read it."""
        super(ModelParallelStrategy, self).load_model_state_dict(checkpoint, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the optimizer states of a checkpoint; Lightning's own has done so when it read it."""
        super(ModelParallelStrategy, self).load_optimizer_state_dict(checkpoint)
