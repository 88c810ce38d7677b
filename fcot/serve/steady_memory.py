"""Keep a server's memory from growing with the number of requests."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt in glibc's malloc.h
# Bytes. Smaller ones are slow, as each mapping is filled with zeros: at 1 MiB a request took 1.4 times as long.
LARGE, FREE = 2 * 2**20, 128 * 2**20


def keep_memory_steady() -> None:
    """Let blocks of memory from 2 MiB on be mapped apart and given back when they are freed; Linux with glibc only.

    By default glibc raises that threshold, up to 32 MiB, whenever a mapped block is freed. Large tensors of requests,
    hardly two of them of a size, then lie among small blocks that stay, and leave holes that the next ones do not fill.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, FREE)
