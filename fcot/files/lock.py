"""One process at a time writes a set; others that want to wait for it.

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
    """Hold a lock while a set is written; say whether it had to be waited for.

    The system lets go of it when its process ends, however it ends: no lock is ever stale. File systems that several
    machines share keep such locks among these machines. On one that keeps none this is said, and the caller goes on:
    what is written must be right without a lock too, which only saves work and keeps old files for their readers.

    Args:
        lock: File to lock; made, and removed at the end.
        what: What is written, for messages.

    Raises:
        OSError: If the file cannot be made.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file, waited = _locked(lock, what)
    try:
        yield waited
    finally:
        lock.unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough where a fork has the file, too
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
        os.close(file)  # the one before has removed it: another process may have made it anew


def _wait(file: int, what: str, waited: bool) -> bool:
    """Lock a file, and return whether anybody had it."""
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
