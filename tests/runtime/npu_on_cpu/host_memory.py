"""Memory of the device of this folder: storages and tensors of torch's PrivateUse1 over bytes of the host."""

import itertools

import torch
from torch.multiprocessing.reductions import StorageWeakRef

DEVICE = torch.device("privateuseone:0")  # whatever its name is by then
SWEEP = 512  # new storages between two looks for those that nobody holds any more
BY_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)

show_storage = torch.ops.aten.set_.source_Storage_storage_offset
_memory = {}  # by address: the host's storage, and a weak reference to the device's over the same bytes
_made = itertools.count(1)


def to_device(tensor):
    """Return the tensor of the device with the bytes of a CPU tensor; one of the device stays as it is."""
    if tensor.device.type != "cpu":
        return tensor
    made = torch._C._acc.create_empty_tensor((0,), tensor.dtype)
    return show(made, tensor)


def to_host(tensor):
    """Return the CPU tensor with the bytes of a tensor of the device; one of another device stays as it is."""
    if tensor.device.type != torch._C._get_privateuse1_backend_name():
        return tensor
    address = tensor.untyped_storage().data_ptr()
    memory = _memory[address][0] if address else torch.UntypedStorage(0)
    place = tensor.storage_offset(), tensor.shape, tensor.stride()
    return torch.empty(0, dtype=tensor.dtype).set_(memory, *place)


def show(tensor, on_host):
    """Have a tensor of the device show the bytes of a CPU tensor, in its shape."""
    place = on_host.storage_offset(), on_host.shape, on_host.stride()
    # the CPU's kernel asks no device: it only sets storage and shape
    return show_storage.redispatch(BY_CPU, tensor, _storage(on_host.untyped_storage()), *place)


def _storage(memory):
    """Return the device's storage over the bytes of a host storage: one and the same for as long as it is held."""
    address = memory.data_ptr()
    if address in _memory and not _memory[address][1].expired():
        return torch.UntypedStorage._new_with_weak_ptr(_memory[address][1].cdata)
    if next(_made) % SWEEP == 0:
        for place in [place for place, (_, alive) in _memory.items() if alive.expired()]:
            del _memory[place]
    made = torch._C._construct_storage_from_data_pointer(address, DEVICE, memory.nbytes())
    if address:  # of an empty storage there are many at no address
        _memory[address] = memory, StorageWeakRef(made)
    return made
