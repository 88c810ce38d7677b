"""Blocks that a server frees go back to the system, however large the blocks before them were."""

import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, sys
from fcot.serve.steady_memory import keep_memory_steady
if sys.argv[1] == "steady":
    keep_memory_steady()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(30_000_000))  # by default this raises the threshold
before = libc.mallinfo2().hblks
held = libc.malloc(10_000_000)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("how", "mapped"), [("steady", "1"), ("as it is", "0")])
def test_a_large_block_is_mapped_apart_after_larger_ones_were_freed(how, mapped):
    said = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == mapped
