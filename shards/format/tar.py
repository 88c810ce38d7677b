"""Walk the headers of a tar file without trusting it: nothing is extracted, inflated or lost in silence.

Readers of tar files stop at the first header they cannot parse and call it the end of the archive, so one flipped
bit hides everything behind it. This walk finds the next header instead and says what lies between.
"""

import errno
import os
import stat
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512
MAX_NAME = 1024  # bytes; file systems end at 255 a part
MAX_EXTENDED = 65_536  # bytes of an extended header; GNU and pax keep long names there
EXTENDED = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
SCAN = 1 << 20  # bytes read at a time while looking for the next header
MAGIC, MAGIC_AT = b"ustar", 257
SUM = slice(148, 156)  # of a header, its checksum
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True)
class Member:
    """A file in a tar.

    Attributes:
        name: Its path as written, checked.
        start: Byte where its headers begin, extended ones included.
        offset: Byte where its content begins.
        size: Bytes of content.
    """

    name: str
    start: int
    offset: int
    size: int


@dataclass(frozen=True)
class Fault:
    """Something in a tar that is not used.

    Attributes:
        reason: One word or two joined by "_", for counting.
        name: The member it is about; "" if that cannot be known.
        detail: What is wrong and where.
        loses: Whether members of unknown names are lost here, and neighbours may be incomplete.
    """

    reason: str
    name: str
    detail: str
    loses: bool = False


def open_shard(path: Path) -> int:
    """Open a shard for reading and return its descriptor.

    Raises:
        OSError: If it cannot be opened, or is not a regular file: opening a pipe would block for ever.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device", str(path))
    return file


def walk(file: int) -> Iterator[Member | Fault]:
    """Yield the members of an open tar file and what is wrong in it, in order.

    Args:
        file: A file descriptor; read at offsets, its position is not moved.
    """
    size = os.fstat(file).st_size
    if size == 0:
        yield Fault("empty_shard", "", "the file is empty", loses=True)
        return
    position, first = 0, True
    while position < size:
        block = os.pread(file, BLOCK, position)
        if not any(block) and _zero_from(file, position, size):
            if size - position < 2 * BLOCK:
                yield Fault("cut_shard", "", f"the end mark at byte {position} is cut off", loses=True)
            return
        try:
            step = _member(file, position, size)
        except (tarfile.HeaderError, ValueError) as error:
            step = None
            resumed = _next_header(file, position + BLOCK, size)
            if first and resumed == size:
                yield Fault("not_a_tar", "", f"no tar header anywhere, the file begins {block[:6].hex()}", loses=True)
                return
            detail = f"no valid header at byte {position} ({error}), the next one is at byte {resumed}"
            yield Fault("damaged_header", "", detail, loses=True)
            if resumed == size:
                return
            position = resumed
        if step is not None:
            found, position = step
            if found is not None:
                yield found
            if isinstance(found, Fault) and found.reason == "cut_shard" and position == size:
                return
        first = False
    yield Fault("cut_shard", "", f"the file ends at byte {size} without an end mark", loses=True)


def _member(file: int, start: int, size: int) -> tuple[Member | Fault | None, int]:
    """Read the member whose headers begin at `start`: what it is, and where the next begins."""
    position = start
    name: bytes | None = None
    fault: str | None = None
    while True:
        info = _header(os.pread(file, BLOCK, position))
        offset = position + BLOCK
        if info.size < 0:
            raise ValueError(f"a size of {info.size}")
        end = offset + -(-info.size // BLOCK) * BLOCK
        if info.type not in EXTENDED:
            break
        other, wrong = _extended(file, info, offset)
        name, fault, position = other or name, fault or wrong, end
    given = info.name if name is None else name.decode("utf-8", "surrogateescape")
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        fault = fault or KINDS.get(info.type, f"of the unknown type {info.type!r}")
    if info.isdir():
        return None, offset
    shown = ascii(given)[1:-1][:120]
    if fault := fault or wrong_name(given):
        return Fault("refused_member", shown, f"{shown} is {fault}"), end if info.isreg() else offset
    if offset + info.size > size:
        cut = Fault("cut_shard", given, f"{shown} should have {info.size} bytes, and the file ends at byte {size}")
        return cut, _next_header(file, offset, size)  # none where a file was cut; a false size hides nothing
    return Member(given, start, offset, info.size), end


def _header(block: bytes) -> tarfile.TarInfo:
    """Parse a header.

    Raises:
        tarfile.HeaderError: If it is none. An empty sum, which Python takes for 0, is none either: of compressed files
            one in 400 adds up to that.
    """
    info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if not block[SUM].strip(b"\0 "):
        raise tarfile.HeaderError("empty checksum")
    return info


def _extended(file: int, info: tarfile.TarInfo, offset: int) -> tuple[bytes | None, str | None]:
    """Read an extended header: the name it gives to the member behind it, and why that one is refused.

    Raises:
        ValueError: If it is too long, or not what its kind holds; what it covers may be members then.
    """
    content = os.pread(file, info.size, offset) if info.size <= MAX_EXTENDED else b""
    if len(content) < info.size:
        raise ValueError(f"an extended header of {info.size} bytes, over {MAX_EXTENDED} or cut off")
    if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        text = content.rstrip(b"\0")
        if b"\0" in text:
            raise ValueError("a damaged long name")
        return text if info.type == tarfile.GNUTYPE_LONGNAME else None, None
    fields = _pax(content)
    if info.type == tarfile.XGLTYPE:
        return None, None
    other = any(field.startswith(b"GNU.sparse") or field == b"size" for field in fields)
    return fields.get(b"path"), "a sparse or oversized file" if other else None


def wrong_name(name: str) -> str | None:
    """Return what is wrong with a member's name, None if nothing."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "not valid UTF-8"
    if len(encoded) > MAX_NAME:
        return f"a name of {len(encoded)} bytes"
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        return "a name with control characters"
    if name.startswith(("/", "\\")) or name[1:3] in (":/", ":\\"):
        return "an absolute path"
    return "a path that leaves its folder" if ".." in name.replace("\\", "/").split("/") else None


def _pax(content: bytes) -> dict[bytes, bytes]:
    """Parse the records `LENGTH KEY=VALUE` of a pax header."""
    fields, position = {}, 0
    while position < len(content) and content[position : position + 1] != b"\0":
        length, _, _ = content[position : position + 20].partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(content) - position:
            raise ValueError("a damaged pax header")
        record = content[position : position + int(length)]
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        fields[key] = value
        position += int(length)
    if content[position:].strip(b"\0"):
        raise ValueError("a damaged pax header")
    return fields


def _zero_from(file: int, position: int, size: int) -> bool:
    """Return whether a file holds nothing but zeros from a position on."""
    while position < size:
        piece = os.pread(file, SCAN, position)
        if not piece or any(piece.lstrip(b"\0")):
            return not piece
        position += len(piece)
    return True


def _next_header(file: int, position: int, size: int) -> int:
    """Return where the next valid header begins, `size` if there is none."""
    while position < size:
        piece = os.pread(file, SCAN, position)
        at = piece.find(MAGIC)
        while at >= 0:
            start = at - MAGIC_AT
            if start >= 0 and start % BLOCK == 0:
                try:
                    _header(piece[start : start + BLOCK])
                    return position + start
                except tarfile.HeaderError:
                    pass
            at = piece.find(MAGIC, at + 1)
        position += SCAN
    return size
