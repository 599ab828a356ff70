"""The XML-RPC session: pyone's protocol with our time-outs, errors and plain lxml answers.

pyone binds every answer to generated classes (slow on big pools) and drops the id of the
object an error is about; its ``timeout`` does nothing for XML-RPC (contract §11). So its
transport and its parameter rules are used, and the answer is read here.
"""

import xmlrpc.client
from typing import Any
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

import requests
from lxml import etree
from pyone import OneException
from pyone.server_xrpc import OneServerXRPC, RequestsTransport

from one_kvm_migrate.errors import (
    AuthError,
    ConfigError,
    OpenNebulaError,
    QuotaExceeded,
    Rejected,
    StateUnexpected,
    Unreachable,
)
from one_kvm_migrate.opennebula.credentials import Credentials
from one_kvm_migrate.tools.xmlsafe import parse_bytes

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0

# include/Request.h of OpenNebula; the numbers are on the wire.
AUTHENTICATION = 0x0100
AUTHORIZATION = 0x0200
NO_EXISTS = 0x0400
ACTION = 0x0800
_BY_CODE: dict[int, type[OpenNebulaError]] = {
    AUTHENTICATION: AuthError,
    AUTHORIZATION: AuthError,
    NO_EXISTS: Rejected,
    ACTION: StateUnexpected,
}


class _Transport(RequestsTransport):  # type: ignore[misc]  # pyone has no types
    def __init__(self) -> None:
        super().__init__()
        self._http = requests.Session()

    def request(self, host: str, handler: str, request_body: bytes, verbose: bool = False) -> Any:
        url = self._build_url(host, handler)
        response = self._http.post(
            url,
            data=request_body,
            headers=self.headers,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            verify=self.https_verify,
        )
        response.raise_for_status()
        return self.parse_response(response)

    def close(self) -> None:
        self._http.close()


class _Server(OneServerXRPC):  # type: ignore[misc]  # pyone has no types
    def __init__(self, endpoint: str, session: str) -> None:
        super().__init__(endpoint, session)
        transport = _Transport()
        transport.set_https(endpoint.startswith("https"))
        transport.set_https_verify(True)
        self.__dict__["_ServerProxy__transport"] = transport

    def raw(self, method: str, params: tuple[Any, ...]) -> Any:
        return self._do_request(method, self._cast_parms(params))


class Client:
    """One user's session at one endpoint. Usable as a context manager.

    ``call`` raises Unreachable, AuthError, QuotaExceeded, StateUnexpected or Rejected; the
    message is oned's own text without its ``[one.x.y]`` prefix.
    """

    def __init__(self, credentials: Credentials) -> None:
        parts = urlsplit(credentials.endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                f"{credentials.endpoint} is not an XML-RPC endpoint",
                hint="It looks like http://frontend:2633/RPC2.",
            )
        self.endpoint = credentials.endpoint
        self.user = credentials.user
        self._server = _Server(credentials.endpoint, credentials.session.reveal())
        self.calls = 0

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP connection."""
        self._server("transport").close()

    def call(self, method: str, *params: Any) -> str | int:
        """Value of the call, e.g. ``call("one.image.delete", 7)``."""
        self.calls += 1
        try:
            answer = self._server.raw(method, params)
        except requests.RequestException as exc:
            raise self._unreachable(exc) from exc
        except OneException as exc:
            # pyone's word for an XML-RPC fault: oned has no such method, or other parameters.
            raise Rejected(
                f"OpenNebula does not take the call {method}: {exc}",
                hint="Its version may be too old; 6.8 or newer is needed.",
            ) from exc
        except (xmlrpc.client.Error, ExpatError, ValueError, TypeError) as exc:
            raise self._foreign() from exc
        match answer:
            case [True, str() | int() as value, *_]:
                return value
            case [False, str() as text, int() as code, *_]:
                raise _error(method, text, code)
        raise self._foreign()

    def number(self, method: str, *params: Any) -> int:
        """Value of a call that answers with an id."""
        return int(self.call(method, *params))

    def document(self, method: str, *params: Any) -> etree._Element:
        """Root element of a call that answers with XML."""
        return parse_bytes(
            str(self.call(method, *params)).encode(), where=f"the answer to {method}"
        )

    def _foreign(self) -> Unreachable:
        return Unreachable(
            f"{self.endpoint} does not answer like OpenNebula",
            hint="Check ONE_XMLRPC or ~/.one/one_endpoint.",
        )

    def _unreachable(self, exc: requests.RequestException) -> OpenNebulaError:
        if isinstance(exc, requests.exceptions.SSLError):
            return Unreachable(
                f"the certificate of {self.endpoint} cannot be verified",
                hint="Add its authority to the system's store or set REQUESTS_CA_BUNDLE.",
            )
        if isinstance(exc, requests.Timeout):
            return Unreachable(f"OpenNebula at {self.endpoint} does not answer in time")
        if isinstance(exc, requests.HTTPError):
            return Unreachable(
                f"{self.endpoint} answers with HTTP {exc.response.status_code}",
                hint="Check ONE_XMLRPC or ~/.one/one_endpoint.",
            )
        return Unreachable(
            f"cannot reach OpenNebula at {self.endpoint}",
            hint="Start it, or set ONE_XMLRPC or ~/.one/one_endpoint.",
        )


def _error(method: str, text: str, code: int) -> OpenNebulaError:
    message = text.removeprefix(f"[{method}]").strip()
    kind = _BY_CODE.get(code, Rejected)
    hint = ""
    if code == AUTHENTICATION:
        message = f"OpenNebula refuses the user name or password ({message})"
        hint = "Check --user and --password, ONE_AUTH, or ~/.one/one_auth, whichever was used."
    elif code == AUTHORIZATION and "limit of" in message and "quota" in message:
        # oned has no code of its own for quotas: they come as AUTHORIZATION with this wording.
        kind = QuotaExceeded
    elif code == AUTHORIZATION:
        hint = "Ask an administrator for that right, or run as oneadmin."
    return kind(message, hint=hint, code=code)
