"""One short VNC session through vncdotool: handshake, one full screen, good-bye.

vncdotool runs Twisted in a thread of its own. This module is the only place that knows;
imported late, because it costs 0.2 s.
"""

import logging
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from PIL import Image
from twisted.internet import reactor
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
)
from twisted.python.failure import Failure
from vncdotool import api, client

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.secret import Secret

BANNER_BYTES = 12
GOODBYE_S = 2.0
_starting = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one session saw. ``banner`` is the server's first line, e.g. ``RFB 003.008``."""

    banner: str
    password_asked: bool
    name: str
    screen: Image.Image


class SessionRefused(Exception):
    """The server answered and said no: password, protocol or access."""


class SessionFailed(Exception):
    """No answer, or the connection broke; another try may work."""


class _Client(client.VNCDoToolClient):  # type: ignore[misc]
    banner = b""
    password_asked = False

    def dataReceived(self, data: bytes) -> None:
        if len(self.banner) < BANNER_BYTES:
            self.banner = (self.banner + data)[:BANNER_BYTES]
        super().dataReceived(data)

    def vncRequestPassword(self) -> None:
        self.password_asked = True
        super().vncRequestPassword()

    # The library takes the cipher from a place that cryptography gives up in version 48.
    def sendPassword(self, password: str) -> None:
        key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
        cipher = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
        self.transport.write(cipher.update(self._challenge) + cipher.finalize())


class _Factory(client.VNCDoToolFactory):  # type: ignore[misc]
    protocol = _Client

    # vncdotool leaves its caller waiting when a connection ends during the handshake.
    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        self.clientConnectionFailed(connector, reason)
        super().clientConnectionLost(connector, reason)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        if not self.deferred.called:
            super().clientConnectionFailed(connector, reason)


def look(host: str, port: int, password: Secret | None, *, deadline: Deadline) -> Session:
    """Connect, take one full screen, disconnect.

    Raises SessionRefused or SessionFailed with a short reason, the password never in it.
    """
    proxy = _connect(host, port, password, deadline)
    try:
        proxy.refreshScreen()
        protocol = proxy.protocol
        return Session(
            banner=protocol.banner.decode("ascii", "replace").strip(),
            password_asked=protocol.password_asked,
            name=protocol.name.decode("utf-8", "replace"),
            screen=protocol.screen.copy(),
        )
    except client.VNCDoException as exc:
        raise SessionRefused(str(exc).strip(" \0\n") or type(exc).__name__) from exc
    except TimeoutError as exc:
        raise SessionFailed("no answer in time") from exc
    except (ConnectError, ConnectionDone, ConnectionLost, DNSLookupError) as exc:
        raise SessionFailed(" ".join(str(exc).split()) or type(exc).__name__) from exc
    finally:
        _leave(proxy)


def _connect(host: str, port: int, password: Secret | None, deadline: Deadline) -> Any:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as exc:
        raise SessionFailed(f"cannot resolve {host}") from exc
    numeric = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
    with _starting:
        hook = sys.excepthook
        proxy = api.connect(
            f"{numeric}::{port}",
            password=password.reveal() if password else "",
            factory_class=_Factory,
            timeout=deadline.left_s(),
        )
        # The library replaces the hook to join its thread; that thread is a daemon anyway.
        sys.excepthook = hook
        logging.getLogger("twisted").setLevel(logging.ERROR)
        wait_until(lambda: reactor.running, deadline, what="the VNC client", interval_s=0.01)
    return proxy


def _leave(proxy: Any) -> None:
    """Close the connection, also one that is only made after we gave up."""
    gone = threading.Event()

    def close(protocol: Any) -> None:
        proxy.factory._disconnect_callbacks.append(lambda reason: gone.set())
        protocol.transport.loseConnection()

    def arrange() -> None:
        proxy.factory.deferred.addCallbacks(close, lambda failure: gone.set())

    reactor.callFromThread(arrange)
    if proxy.protocol is not None:
        gone.wait(GOODBYE_S)
