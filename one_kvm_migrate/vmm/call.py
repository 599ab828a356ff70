"""One invocation of a driver script."""

from collections.abc import Callable
from typing import NamedTuple

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.vmm.kvmrc import STOCK_URI, Settings
from one_kvm_migrate.vmm.log import Log


class CallDeadline(Deadline):
    """A deadline that a signal can bring forward, so that waits end and changes are undone."""

    def stop(self) -> None:
        """Let it pass now."""
        self._at = self._clock()


class Call(NamedTuple):
    """What an action gets. A named tuple: importing dataclasses would cost 3 ms per action."""

    action: str
    argv: tuple[str, ...]
    settings: Settings
    log: Log
    deadline: Deadline
    read_stdin: Callable[[], bytes]

    @property
    def uri(self) -> str:
        """Where libvirt listens."""
        return self.settings.text("LIBVIRT_URI", STOCK_URI)
