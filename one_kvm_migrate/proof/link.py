"""A libvirt connection to one domain, bounded even when the daemon hangs.

libvirt's event loop runs in a daemon thread: streams that must not block need it, and it
answers keep-alive messages, so that a dead daemon becomes an error instead of a wait.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import DeadlineExceeded, EnvironmentMissing, VerifyError
from one_kvm_migrate.tools.xmlsafe import parse_bytes

KEEPALIVE_S, KEEPALIVE_MISSES = 5, 3
RUNNING, PAUSED, CRASHED, STOPPED = "running", "paused", "crashed", "stopped"
AGENT_CHANNEL = "org.qemu.guest_agent.0"

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


class DomainLink:
    """One running domain. ``domain`` is libvirt's own object, for agent and serial."""

    def __init__(self, connection: Any, domain: Any) -> None:
        self.connection = connection
        self.domain = domain

    def state(self) -> str:
        """One of RUNNING, PAUSED, CRASHED and STOPPED; a domain that is gone is STOPPED too."""
        import libvirt

        try:
            number, _ = self.domain.state()
        except libvirt.libvirtError as exc:
            if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return STOPPED
            raise translated(exc, "ask for the state of the machine") from exc
        return state_word(number)

    def domain_type(self) -> str:
        """``kvm``, or ``qemu`` when every instruction is emulated."""
        root = parse_bytes(self._xml().encode(), where="the domain description")
        return root.get("type", "")

    def agent_channel(self) -> str | None:
        """State of the guest agent's channel: ``connected``, ``disconnected``; None without one."""
        root = parse_bytes(self._xml().encode(), where="the domain description")
        for target in root.iterfind("devices/channel/target"):
            if target.get("name") == AGENT_CHANNEL:
                return target.get("state", "disconnected")
        return None

    def has_console(self) -> bool:
        """True if the domain has a serial line that can be read."""
        root = parse_bytes(self._xml().encode(), where="the domain description")
        return root.find("devices/serial") is not None

    def _xml(self) -> str:
        import libvirt

        try:
            return str(self.domain.XMLDesc())
        except libvirt.libvirtError as exc:
            raise translated(exc, "read the machine's description") from exc


@contextmanager
def open_link(uri: str, name_or_uuid: str, *, deadline: Deadline) -> Iterator[DomainLink]:
    """Connect to *uri* and find the domain by name or UUID.

    Raises VerifyError (no connection, no such domain), DeadlineExceeded (the daemon hangs),
    EnvironmentMissing (libvirt-python is not installed).
    """
    if find_spec("libvirt") is None:
        raise EnvironmentMissing(
            "libvirt-python is not installed", hint="Install it into the virtual environment."
        )
    _ensure_event_loop()
    connection = _connect(uri, deadline)
    try:
        connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_MISSES)
        yield DomainLink(connection, _find(connection, name_or_uuid))
    finally:
        connection.close()


def state_word(number: int) -> str:
    """libvirt's state *number* in the four words that matter to a proof."""
    import libvirt

    return {
        libvirt.VIR_DOMAIN_RUNNING: RUNNING,
        libvirt.VIR_DOMAIN_BLOCKED: RUNNING,
        libvirt.VIR_DOMAIN_PAUSED: PAUSED,
        libvirt.VIR_DOMAIN_PMSUSPENDED: PAUSED,
        libvirt.VIR_DOMAIN_CRASHED: CRASHED,
    }.get(number, STOPPED)


def translated(exc: Exception, what: str) -> VerifyError:
    """libvirt's *exc* as ours; *what* completes "cannot …"."""
    return VerifyError(f"cannot {what}: {str(exc).strip()}")


def _connect(uri: str, deadline: Deadline) -> Any:
    """The connection, made in a thread that is left behind when the daemon hangs."""
    import libvirt

    answers: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        try:
            answers.put(libvirt.open(uri))
        except libvirt.libvirtError as exc:
            answers.put(exc)

    threading.Thread(target=work, daemon=True, name="libvirt connect").start()
    try:
        answer = answers.get(timeout=deadline.left_s())
    except queue.Empty as exc:
        raise DeadlineExceeded(
            f"libvirt at {uri} did not answer within {deadline.timeout_s:g} s"
        ) from exc
    if isinstance(answer, libvirt.libvirtError):
        raise translated(answer, f"connect to libvirt at {uri}") from answer
    return answer


def _find(connection: Any, name_or_uuid: str) -> Any:
    import libvirt

    reasons = []
    for lookup in (connection.lookupByUUIDString, connection.lookupByName):
        try:
            return lookup(name_or_uuid)
        except libvirt.libvirtError as exc:
            reasons.append(exc)
    raise translated(reasons[-1], f"find the machine {name_or_uuid}") from reasons[-1]


def _ensure_event_loop() -> None:
    import libvirt

    global _loop  # noqa: PLW0603 - one loop per process is libvirt's own rule
    with _loop_lock:
        if _loop is not None:
            return
        # The bindings print every error to stderr by themselves; ours are raised.
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def run_forever() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        _loop = threading.Thread(target=run_forever, daemon=True, name="libvirt events")
        _loop.start()
