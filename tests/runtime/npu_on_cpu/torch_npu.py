"""A PrivateUse1 device "npu:0" whose memory is the host's and whose kernels are the CPU's.

Importing it registers the device, as importing the real torch_npu does; that cannot be undone, so only processes with
this folder on their path see it. To torch the tensors are those of a device of its own: storages on npu:0, dispatch by
way of PrivateUse1 and its autograd and autocast keys, a random state apart from the CPU's. Only the arithmetic is the
CPU's, so nothing here speaks of CANN kernels, HCCL, streams or memory. What torch asks of an allocator, a generator
object or pinned memory, a back end in Python cannot give: `copy.deepcopy` of a tensor of the device crashes.

`ran` counts the operations that ran on the device, by name and by type of their first tensor, and "drawn" those among
them that drew from its random state.
"""

import contextlib
import sys
import types
from collections import Counter
from functools import partial

import hccl_by_gloo
import torch
from host_memory import BY_CPU, show, show_storage, to_device, to_host
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "npu"
KEY, AUTOCAST_KEY = "PrivateUse1", "AutocastPrivateUse1"
LOWERED = "matmul mm bmm addmm baddbmm linear conv2d scaled_dot_product_attention"  # by autocast

aten = torch.ops.aten
ran = Counter()
_random_state = torch.Generator().manual_seed(1).get_state()


@contextlib.contextmanager
def _own_randomness():
    """Draw from the device's random state, and leave the CPU's as it is."""
    global _random_state
    before = torch.get_rng_state()
    torch.set_rng_state(_random_state)
    try:
        yield
    finally:
        _random_state = torch.get_rng_state()
        torch.set_rng_state(before)


def _run(op, *args, **kwargs):
    """Run any operation on the device: by the CPU's kernel, on the same bytes."""
    tensors = {}

    def host(tensor):
        made = to_host(tensor)
        tensors[id(made)] = made, tensor  # an operation in place returns what it was given
        return made

    def back(tensor):
        return tensors[id(tensor)][1] if id(tensor) in tensors else to_device(tensor)

    first = next((each for each in args if isinstance(each, torch.Tensor)), None)
    ran[f"{op._schema.name.removeprefix('aten::')}, {None if first is None else first.dtype}"] += 1
    filled = [_as_declared(*each) for each in zip(args, op._schema.arguments, strict=False)]
    given, named = tree_map_only(torch.Tensor, host, (filled, kwargs))
    if "device" in named:
        named["device"] = torch.device("cpu")
    ran["drawn"] += (random := torch.Tag.nondeterministic_seeded in op.tags)
    with _own_randomness() if random else contextlib.nullcontext():
        result = op(*given, **named)
    if op._schema.is_mutable:
        for made, tensor in tensors.values():
            if made.shape != tensor.shape:  # an operation gives its `out` the size it needs
                show(tensor, made)
    return tree_map_only(torch.Tensor, back, result)


def _as_declared(value, argument):
    """Return a tensor where one is declared and torch hands over a plain number."""
    is_number = isinstance(value, (bool, int, float, complex))
    return torch.tensor(value) if is_number and isinstance(argument.type, torch._C.TensorType) else value


def _make(op):
    """Return a kernel that makes a tensor on this device."""
    return lambda *args, device=None, pin_memory=None, **options: to_device(op(*args, device="cpu", **options))


def _view(op):
    """Return a kernel for another view of the same storage: the CPU's, which reads shapes only."""
    return partial(op.redispatch, BY_CPU)


def _copy_from(source, target, non_blocking=False):
    """Copy within the device, to it or from it."""
    ran[f"copy {source.device.type} to {target.device.type}"] += 1
    to_host(target).copy_(to_host(source))
    return target


def _resize(tensor, size, memory_format=None):
    """Give a tensor another size, and new memory where it needs more."""
    return show(tensor, to_host(tensor).clone().resize_(size))


def _convolve_back(gradient, image, weight, *options):
    """Return the gradients of a convolution; unlike the device's, the CPU's operation asks for the size of the bias."""
    return _run(aten.convolution_backward.default, gradient, image, weight, [gradient.shape[1]], *options)


def _autocast(op):
    """Return a kernel that casts to the type that autocast was given."""

    def cast(tensor):
        wanted = tensor.device.type == NAME and tensor.is_floating_point()
        return tensor.to(torch.get_autocast_dtype(NAME)) if wanted else tensor

    def kernel(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            args, kwargs = tree_map_only(torch.Tensor, cast, (args, kwargs))
            return op(*args, **kwargs)

    return kernel


everything, some = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
everything.fallback(_run, KEY)
everything.fallback(torch.library.fallthrough_kernel, AUTOCAST_KEY)
KERNELS = {
    "empty.memory_format": _make(aten.empty.memory_format),
    "empty_strided": _make(aten.empty_strided.default),
    **{name: _view(getattr(aten, name).default) for name in ("as_strided", "view", "_reshape_alias", "unfold")},
    "set_.source_Storage_storage_offset": _view(show_storage),
    "resize_": _resize,
    "_copy_from": _copy_from,
    "_copy_from_and_resize": _copy_from,
    # as torch calls them on a device that it does not know
    "convolution_overrideable": partial(_run, aten.convolution.default),
    "convolution_backward_overrideable": _convolve_back,
    # which torch would put together from smaller operations
    "native_layer_norm": partial(_run, aten.native_layer_norm.default),
}
for name, kernel in KERNELS.items():
    some.impl(name, kernel, KEY)
for name in LOWERED.split():
    some.impl(name, _autocast(getattr(aten, name).default), AUTOCAST_KEY)


def npu_fusion_attention(*_, **__):
    """Be there for transformers, which imports it where there is a torch_npu; the kernel itself is CANN's."""
    raise NotImplementedError("npu_fusion_attention is a kernel of CANN, and this device has the CPU's.")


class _Module(types.ModuleType):
    """What torch, Lightning and fcot ask of `torch.npu`."""

    is_available = staticmethod(lambda: True)
    is_initialized = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])

    @staticmethod
    def empty_cache():
        """Count that it was asked for; no memory is kept back."""
        ran["empty_cache"] += 1

    @staticmethod
    def manual_seed_all(seed):
        """Seed the device's randomness."""
        global _random_state
        _random_state = torch.Generator().manual_seed(seed).get_state()


npu = sys.modules[f"torch.{NAME}"] = _Module(f"torch.{NAME}")
_setup_privateuseone_for_python_backend(NAME, npu)
hccl_by_gloo.register()
