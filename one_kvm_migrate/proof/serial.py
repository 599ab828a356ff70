"""The machine's serial line: read through libvirt, and judged by what it says."""

import re
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from one_kvm_migrate.errors import VerifyError
from one_kvm_migrate.proof.link import DomainLink, translated

KEEP_CHARS = 256 * 1024
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1a\x7f]")
_USERSPACE = {
    "login prompt": re.compile(r"(?m)^[^\n]{0,80}\blogin: ?(?:$|\[ *\d)"),
    "service manager": re.compile(r"(?m)^\s*\[ {0,2}OK {0,2}\] \S|systemd\[1\]: "),
    "demo guest ready": re.compile(r"(?m)^OKM-GUEST-READY "),
}
_KERNEL = {
    "kernel messages": re.compile(r"(?m)^\[ *\d+\.\d{6}\] \S"),
    "kernel banner": re.compile(r"(?m)\bLinux version \d"),
}
_FATAL = re.compile(
    r"(Kernel panic - not syncing[^\n]*"
    r"|VFS: Unable to mount root fs[^\n]*"
    r"|ALERT![^\n]*does not exist[^\n]*"
    r"|[^\n]*You are in emergency mode[^\n]*"
    r"|[^\n]*dracut-initqueue: timeout[^\n]*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSigns:
    """What a console text shows. ``fatal`` is the line that says the boot is over."""

    userspace: tuple[str, ...]
    kernel: tuple[str, ...]
    fatal: str | None


def read_signs(text: str) -> SerialSigns:
    """Signs of life and death in *text*, whatever order they come in.

    Firmware and boot loader output is neither: a guest that only gets there is not proven.
    """
    plain = _ESCAPES.sub("", text.replace("\r", ""))
    fatal = _FATAL.search(plain)
    return SerialSigns(
        userspace=tuple(name for name, pattern in _USERSPACE.items() if pattern.search(plain)),
        kernel=tuple(name for name, pattern in _KERNEL.items() if pattern.search(plain)),
        fatal=fatal.group(0).strip() if fatal else None,
    )


class SerialConsole:
    """The first console of a domain, opened without taking it from anybody.

    Use as a context manager; ``read`` never blocks. Raises VerifyError when it cannot be
    opened, also when somebody else reads it already.
    """

    def __init__(self, link: DomainLink) -> None:
        self._link = link
        self._stream: Any = None
        self.text = ""

    def __enter__(self) -> "SerialConsole":
        import libvirt

        try:
            self._stream = self._link.connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
            self._link.domain.openConsole(None, self._stream, 0)
        except libvirt.libvirtError as exc:
            self._stream = None
            raise translated(exc, "open the serial console") from exc
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def read(self) -> str:
        """Take what has come since the last call and give back all text kept (256 Ki characters).

        After the line is gone (machine stopped) it gives back what there was.
        """
        import libvirt

        while self._stream is not None:
            try:
                data = self._stream.recv(65536)
            except libvirt.libvirtError:
                self._close()
                break
            if data == -2 or not data:
                break
            self.text = (self.text + data.decode("utf-8", "replace"))[-KEEP_CHARS:]
        return self.text

    def press_enter(self) -> None:
        """Ask a silent login prompt to show itself again."""
        import libvirt

        if self._stream is None:
            raise VerifyError("the serial console is closed")
        try:
            self._stream.send(b"\n")
        except libvirt.libvirtError as exc:
            raise translated(exc, "write to the serial console") from exc

    def _close(self) -> None:
        import libvirt

        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.abort()
            except libvirt.libvirtError:
                return  # the line was gone before us
