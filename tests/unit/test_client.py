"""The XML-RPC border: every way it can fail becomes one of our errors."""

import xmlrpc.client
from pathlib import Path

import pytest
import requests
import responses

from one_kvm_migrate import errors
from one_kvm_migrate.opennebula.client import READ_TIMEOUT_S, Client
from one_kvm_migrate.opennebula.credentials import Credentials
from one_kvm_migrate.secret import Secret

URL = "http://one.example:2633/RPC2"
RECORDED = Path(__file__).parents[1] / "data/recordings/xmlrpc"


def client(endpoint: str = URL) -> Client:
    return Client(Credentials(endpoint=endpoint, user="ana", session=Secret("ana:pw")))


def answer(*values: object) -> str:
    return xmlrpc.client.dumps((list(values),), methodresponse=True, allow_none=True)


@responses.activate
def test_values_and_documents() -> None:
    responses.post(URL, body=answer(True, 7, 0))
    responses.post(URL, body=answer(True, "", 0))
    responses.post(URL, body=answer(True, "<IMAGE><ID>3</ID></IMAGE>", 0))
    with client() as one:
        assert one.number("one.image.allocate", "<T/>", 1, True) == 7
        assert one.call("one.empty") == ""
        assert one.document("one.image.info", 3).findtext("ID") == "3"
        assert one.calls == 3
    params, method = xmlrpc.client.loads(responses.calls[0].request.body)  # type: ignore[arg-type]
    assert (method, params) == ("one.image.allocate", ("ana:pw", "<T/>", 1, True))
    assert responses.calls[0].request.req_kwargs["timeout"][1] == READ_TIMEOUT_S  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("label", "kind", "words"),
    [
        (
            "287-one.image.allocate-image-errors",
            errors.Rejected,
            "NAME is already taken by IMAGE 0",
        ),
        ("290-one.image.allocate-image-errors", errors.Rejected, "Error getting datastore [999]."),
    ],
)
@responses.activate
def test_recorded_refusals(label: str, kind: type[errors.OpenNebulaError], words: str) -> None:
    responses.post(URL, body=(RECORDED / f"{label}.response.xml").read_bytes())
    with client() as one, pytest.raises(kind) as caught:
        one.call("one.image.allocate", "x", 100)
    assert words in caught.value.message
    assert "[one." not in caught.value.message


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (0x0100, "User couldn't be authenticated, aborting call.", errors.AuthError),
        (0x0200, "User [2] : Not authorized to perform USE IMAGE [0].", errors.AuthError),
        (
            0x0200,
            "user [2] limit of 1 reached for IMAGES quota in datastore 1.",
            errors.QuotaExceeded,
        ),
        (0x0400, "Error getting image [9].", errors.Rejected),
        (0x0800, "This action is not available for state RUNNING", errors.StateUnexpected),
        (0x2000, "Cannot parse image SIZE", errors.Rejected),
        (0x4000, "NAME is already taken", errors.Rejected),
    ],
)
@responses.activate
def test_every_code_has_its_error(code: int, text: str, kind: type[errors.OpenNebulaError]) -> None:
    responses.post(URL, body=answer(False, f"[one.x.y] {text}", code, -1))
    with client() as one, pytest.raises(errors.OpenNebulaError) as caught:
        one.call("one.x.y")
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert text.split()[0] in caught.value.message


@pytest.mark.parametrize(
    ("body", "status"),
    [("<html>hello</html>", 200), ("", 200), ("gone", 502), (answer(), 200), ("\x00\x01", 200)],
)
@responses.activate
def test_something_else_at_the_endpoint(body: str, status: int) -> None:
    responses.post(URL, body=body, status=status)
    with client() as one, pytest.raises(errors.Unreachable) as caught:
        one.call("one.system.version")
    assert URL in caught.value.message


@responses.activate
def test_an_xmlrpc_fault_is_refused_in_words() -> None:
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(-506, "Method 'one.x' not defined"))
    responses.post(URL, body=fault)
    with client() as one, pytest.raises(errors.OpenNebulaError, match="not defined"):
        one.call("one.x")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (requests.ConnectionError("refused"), "cannot reach OpenNebula"),
        (requests.ReadTimeout("slow"), "does not answer in time"),
        (requests.exceptions.SSLError("bad"), "certificate"),
    ],
)
@responses.activate
def test_network_faults(fault: Exception, words: str) -> None:
    responses.post(URL, body=fault)
    with client() as one, pytest.raises(errors.Unreachable, match=words) as caught:
        one.call("one.system.version")
    assert caught.value.retryable


def test_nobody_listens() -> None:
    with client("http://127.0.0.1:9/RPC2") as one, pytest.raises(errors.Unreachable, match="reach"):
        one.call("one.system.version")


@pytest.mark.parametrize("endpoint", ["localhost:2633", "ftp://x/RPC2", ""])
def test_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(errors.ConfigError, match="not an XML-RPC endpoint"):
        client(endpoint)
