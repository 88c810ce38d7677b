"""Let one process at a time write a set while the others wait.

`filelock` is not used because it leaves its file beside the set, and its documentation warns against removing it
(https://github.com/tox-dev/filelock/pull/623). Here the file is removed, and a process that waited for it notices.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def one_writer(lock: Path, what: str) -> Iterator[bool]:
    """Hold a lock while a set is written; yield whether another process had it before.

    The system releases it when its process ends, however it ends: no lock is ever stale. On a shared file system it
    holds across machines. If the file system has no locks, a message says so and the caller goes on: what is written
    must be right without a lock too, which only saves work and keeps old files for their readers.

    Args:
        lock: File to lock; created, and removed at the end.
        what: What is written, for messages.

    Raises:
        OSError: If the file cannot be created.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file, waited = _locked(lock, what)
    try:
        yield waited
    finally:
        lock.unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough if a fork has the file open too
        os.close(file)


@contextmanager
def claim(lock: Path) -> Iterator[bool]:
    """Hold a lock if no other process does, and yield whether it is held; nobody waits.

    Where the file system has no locks, it always is: divide the work in another way there.

    Args:
        lock: File to lock; created, and removed at the end by its holder.

    Raises:
        OSError: If the file cannot be created or locked.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = _is_at(file, lock)  # or its last holder removed it in between
    except BlockingIOError:
        mine = False
    except OSError as error:
        mine = error.errno in NO_LOCKS
        if not mine:
            os.close(file)
            raise
    try:
        yield mine
    finally:
        if mine:
            lock.unlink(missing_ok=True)
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def _locked(lock: Path, what: str) -> tuple[int, bool]:
    """Return the locked file, and whether another process had it before."""
    waited = False
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            waited = _wait(file, what, waited)
            if _is_at(file, lock):
                return file, waited
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its last holder removed it, and another process may have created it again


def _wait(file: int, what: str, waited: bool) -> bool:
    """Lock a file, and return whether another process had it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not waited:
            print(f"Another process is writing {what}: waiting until it is done.", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"{what} lies on a file system without locks: let no other process write it now.", flush=True)
    return waited


def _is_at(file: int, path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
