"""Opening files that came from elsewhere: regular files only, never blocking, reads bounded."""

import errno
import os
import stat
from pathlib import Path
from types import TracebackType

from one_kvm_migrate.errors import SourceCorrupt, SourceError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)
_WHY = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EACCES: "may not be read by this user",
    errno.EPERM: "may not be read by this user",
    errno.ELOOP: "is a symbolic link that leads nowhere",
    errno.ENAMETOOLONG: "has a name that is too long",
    # What open() says of a socket.
    errno.ENXIO: "is not a regular file",
}


def open_regular(path: Path) -> int:
    """Read-only descriptor of the regular file *path*; the caller closes it.

    O_NONBLOCK, because opening a named pipe would otherwise wait for a writer for ever.
    Raises SourceError when it is missing, unreadable or not a regular file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as exc:
        why = _WHY.get(exc.errno or 0, f"cannot be opened: {exc.strerror}")
        raise SourceError(f"{path} {why}", hint="Check the path.") from exc
    except ValueError as exc:
        raise SourceError(f"{str(path)!r} is not a file name", hint="Check the path.") from exc
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    kind = next((name for test, name in _KINDS if test(mode)), "not a regular file")
    hint = "Give a file that lies in it." if stat.S_ISDIR(mode) else "Give a regular file."
    raise SourceError(f"{path} is {kind}, not a regular file", hint=hint)


class Window:
    """Part of a regular file, read by position: a disk, or a disk inside an OVA.

    ``offset_bytes`` and ``size_bytes`` place the window in the file; positions given to the
    methods are relative to it. Use as a context manager. Nothing outside is ever read.
    """

    def __init__(
        self,
        path: Path,
        *,
        offset_bytes: int = 0,
        size_bytes: int | None = None,
        name: str | None = None,
    ) -> None:
        self.path = path
        self.name = name or str(path)
        self.offset_bytes = offset_bytes
        self._fd = open_regular(path)
        status = os.fstat(self._fd)
        self.stored_bytes = min(status.st_blocks * 512, status.st_size)
        whole = max(0, status.st_size - offset_bytes)
        self.size_bytes = whole if size_bytes is None else size_bytes
        if offset_bytes < 0 or not 0 <= self.size_bytes <= whole:
            self.close()
            raise SourceCorrupt(
                f"{self.name} should end at byte {offset_bytes + self.size_bytes} of {path}, "
                f"which has {status.st_size} bytes",
                hint="The file is cut short; copy it again.",
            )

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def peek(self, at: int, count: int) -> bytes:
        """Up to *count* bytes from position *at*; fewer at the end, none outside."""
        count = min(count, self.size_bytes - at)
        if at < 0 or count <= 0:
            return b""
        parts = bytearray()
        while len(parts) < count:
            try:
                chunk = os.pread(self._fd, count - len(parts), self.offset_bytes + at + len(parts))
            except OSError as exc:
                raise SourceError(f"cannot read {self.name}: {exc.strerror}") from exc
            if not chunk:
                break
            parts += chunk
        return bytes(parts)

    def read(self, at: int, count: int, what: str) -> bytes:
        """Exactly *count* bytes from *at*; *what* names them in errors.

        Raises SourceCorrupt when they end early.
        """
        data = self.peek(at, count)
        if len(data) != count:
            raise SourceCorrupt(
                f"{self.name} is damaged or cut short: its {what} should lie at bytes "
                f"{at} to {at + count}, but it has {self.size_bytes} bytes",
                hint="Copy it again or restore it from a backup.",
            )
        return data
