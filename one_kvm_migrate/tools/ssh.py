"""A port of another host brought here by ssh, for as long as it is needed."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from shutil import which

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import EnvironmentMissing, ToolFailed
from one_kvm_migrate.tools.interrupts import shielded
from one_kvm_migrate.tools.run import kill_group

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 15


def is_local(host: str) -> bool:
    """True when *host* is an address or name of this machine (something can be bound there)."""
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
        except OSError:
            continue
    return False


@contextmanager
def forwarded(host: str, port: int, *, deadline: Deadline) -> Iterator[int]:
    """Local port that leads to *host*'s own loopback *port* while the context lasts.

    Host keys are checked and nothing is asked, as in every call of OpenNebula's drivers.
    Raises EnvironmentMissing (no ssh), ToolFailed (ssh's own reason), DeadlineExceeded.
    """
    if which("ssh") is None:
        raise EnvironmentMissing("the program ssh is not installed", hint="Install it.")
    local = _free_port()
    argv = ["ssh", "-N", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]
    argv += ["-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
    argv += ["-L", f"{LOOPBACK}:{local}:{LOOPBACK}:{port}", "--", host]
    with ExitStack() as stack:
        with shielded():
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            stack.callback(_end, process)

        def ready() -> bool:
            if process.poll() is not None and process.stderr is not None:
                reason = process.stderr.read().decode("utf-8", "replace")
                raise ToolFailed(argv, process.returncode, reason)
            with socket.socket() as probe:
                return probe.connect_ex((LOOPBACK, local)) == 0

        wait_until(ready, deadline, what=f"the ssh tunnel to {host}", interval_s=0.1)
        yield local


def _end(process: "subprocess.Popen[bytes]") -> None:
    kill_group(process)
    if process.stderr is not None:
        process.stderr.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
