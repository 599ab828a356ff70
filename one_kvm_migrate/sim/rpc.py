"""oned's XML-RPC front: exact answer shapes, strict parameter types, authentication.

An answer is [True, value, 0] or [False, text, code, object id, -1].
"""

import hashlib
import hmac
import inspect
import logging
import socket
import threading
import xmlrpc.client
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

from one_kvm_migrate.errors import Cancelled, OkmError
from one_kvm_migrate.sim.call import Call, Handler, Methods
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.units import MiB

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 64 * MiB
IDLE_TIMEOUT_S = 15.0
TYPE_ERROR, PARSE_ERROR, NO_SUCH_METHOD = -501, -503, -506
NAMES = MappingProxyType({int: "an integer", bool: "a boolean", str: "a string", list: "an array"})

Param = str | int | bool | list[int]
Answer = list[str | int | bool]


class Fault(Exception):
    """A call that does not reach a handler; answered as an XML-RPC fault."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def answer(sim: "Sim", method: str, params: list[Param]) -> Answer:
    """Run one call, session first in *params*; raises Fault for calls that fit no method."""
    handler = sim.methods.get(method)
    if handler is None:
        raise Fault(NO_SUCH_METHOD, f"Method '{method}' not defined")
    session, *given = params or [""]
    if type(session) is not str:
        raise Fault(TYPE_ERROR, "Parameter that is supposed to be a string is not")
    arguments = check_types(handler, given)
    deleted = sim.events.about_to_delete(method, given)
    try:
        # Authentication reads, so that a wrong password never starts a transaction.
        call = Call(sim, authenticate(sim, session), method)
        with sim.store.transaction():
            value = handler(call, *arguments)
        result: Answer = [True, value, 0]
    except OnedError as exc:
        result = _refusal(method, exc)
    except (OkmError, Cancelled) as exc:
        # A tool is missing or too slow, or the simulator stops: oned has no better word either.
        result = _refusal(method, OnedError(Code.INTERNAL, exc.sentence()))
    sim.events.api_called(method, given, result, deleted)
    return result


def _refusal(method: str, exc: OnedError) -> Answer:
    log.info("method=%s refused: %s", method, exc.text)
    return [False, f"[{method}] {exc.text}", int(exc.code), exc.object_id, -1]


def authenticate(sim: "Sim", session: str) -> Obj:
    """The user of "name:password"; raises OnedError(AUTHENTICATION) with oned's text."""
    name, _, password = session.partition(":")
    user = sim.store.named("user", name)
    digest = hashlib.sha256(password.encode()).hexdigest()
    known = user is not None and user.text("AUTH_DRIVER") == "core" and user.number("ENABLED")
    if user is None or not known or not hmac.compare_digest(digest, user.text("PASSWORD")):
        raise OnedError(Code.AUTHENTICATION, "User couldn't be authenticated, aborting call.")
    return user


def check_types(handler: Handler, given: list[Param]) -> list[Param]:
    """*given* cut to what *handler* takes; raises Fault for missing or wrongly typed ones."""
    wanted = list(inspect.signature(handler).parameters.values())[1:]
    if wanted and wanted[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        wanted[-1:] = [wanted[-1]] * max(0, len(given) - len(wanted) + 1)
    for index, parameter in enumerate(wanted):
        if index >= len(given):
            if parameter.default is inspect.Parameter.empty:
                raise Fault(TYPE_ERROR, "Not enough parameters")
            break
        # bool is not taken for int, nor int for bool; list[int] is no plain class.
        kind = parameter.annotation if parameter.annotation in NAMES else list
        if type(given[index]) is not kind or not _fits_i4(given[index]):
            raise Fault(TYPE_ERROR, f"Parameter that is supposed to be {NAMES[kind]} is not")
    return given[: len(wanted)]


def _fits_i4(values: Param) -> bool:
    """False for numbers that only fit into i8, which oned does not take."""
    numbers = values if isinstance(values, list) else [values]
    return all(-(2**31) <= item < 2**31 for item in numbers if type(item) is int)


def encode(result: Answer) -> bytes:
    """*result* as a methodResponse, with oned's integer tags (i4; the last of five is i8)."""
    values = "".join(
        f"<value>{_value(item, 'i8' if index == 4 else 'i4')}</value>\r\n"
        for index, item in enumerate(result)
    )
    return _response(
        f"<params>\r\n<param><value><array><data>\r\n{values}"
        "</data></array></value></param>\r\n</params>\r\n"
    )


def encode_fault(fault: Fault) -> bytes:
    """*fault* as a methodResponse."""
    return _response(
        "<fault>\r\n<value><struct>\r\n"
        f"<member><name>faultCode</name>\r\n<value><i4>{fault.code}</i4></value></member>\r\n"
        f"<member><name>faultString</name>\r\n"
        f"<value><string>{escape(fault.text)}</string></value></member>\r\n"
        "</struct></value>\r\n</fault>\r\n"
    )


def _value(item: str | int | bool, integer: str) -> str:
    if isinstance(item, bool):
        return f"<boolean>{int(item)}</boolean>"
    if isinstance(item, int):
        return f"<{integer}>{item}</{integer}>"
    return f"<string>{escape(item, {chr(13): '&#x0d;'})}</string>"


def _response(inner: str) -> bytes:
    head = '<?xml version="1.0" encoding="UTF-8"?>\r\n<methodResponse>\r\n'
    return f"{head}{inner}</methodResponse>\r\n".encode()


def _decode(body: bytes) -> tuple[str, list[Param]]:
    try:
        params, method = xmlrpc.client.loads(body)
    except (ExpatError, xmlrpc.client.Error, ValueError, LookupError, TypeError) as exc:
        raise Fault(PARSE_ERROR, f"Call XML not a proper XML-RPC call.  {exc}") from exc
    if method is None:
        raise Fault(PARSE_ERROR, "Call XML not a proper XML-RPC call.  No methodName")
    return method, list(params)  # type: ignore[arg-type]  # check_types looks at each


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    server: "Server"

    def do_POST(self) -> None:
        """Answer one call; the connection is closed after it."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
            self.send_error(411 if not length.isdigit() else 413)
            return
        body = self.rfile.read(int(length))
        try:
            reply = encode(answer(self.server.sim, *_decode(body)))
        except Fault as fault:
            reply = encode_fault(fault)
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(reply)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: calls are logged with their outcome, never with the session."""


class Server(ThreadingHTTPServer):
    """Listens on loopback; ``stop`` waits for running calls."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, sim: "Sim", port: int) -> None:
        self.sim = sim
        self._thread: threading.Thread | None = None
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        """The port really listened on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Answer calls in threads of their own."""
        self._thread = threading.Thread(target=self.serve_forever, name="xmlrpc", args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and wait for the calls that run. Idempotent."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None
        self.server_close()

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close one connection; a peer that is already gone is no error."""
        try:
            super().shutdown_request(request)
        except OSError as exc:
            log.debug("closing a connection: %s", exc)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news; anything else goes to the log with its trace."""
        log.warning("call from %s broke", client_address, exc_info=True)


def merged(*tables: Methods) -> dict[str, Handler]:
    """One registry of all *tables*; raises ValueError if two define the same method."""
    methods: dict[str, Handler] = {}
    for table in tables:
        double = methods.keys() & table.keys()
        if double:
            raise ValueError(f"defined twice: {sorted(double)}")
        methods.update(table)
    return methods
