"""Whether any host can start a guest, asked before hours of conversion."""

import xmlrpc.client

import pytest
import responses

from one_kvm_migrate.errors import OpenNebulaError, Rejected, StateUnexpected
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.credentials import Credentials
from one_kvm_migrate.opennebula.hosts import find_host, require_host
from one_kvm_migrate.secret import Secret

URL = "http://one.example:2633/RPC2"


def answer_with(*hosts: tuple[str, int, str]) -> Client:
    items = "".join(
        f"<HOST><ID>{number}</ID><NAME>{name}</NAME><STATE>{state}</STATE>"
        f"<TEMPLATE><HYPERVISOR>{kind}</HYPERVISOR></TEMPLATE></HOST>"
        for number, (name, state, kind) in enumerate(hosts)
    )
    value = [True, f"<HOST_POOL>{items}</HOST_POOL>", 0]
    responses.post(URL, body=xmlrpc.client.dumps((value,), methodresponse=True))
    return Client(Credentials(endpoint=URL, user="ana", session=Secret("ana:pw")))


@pytest.mark.parametrize(("state", "kind"), [(2, "kvm"), (1, "kvm"), (0, ""), (6, "")])
@responses.activate
def test_a_host_that_will_do(state: int, kind: str) -> None:
    with answer_with(("down", 4, "kvm"), ("node1", state, kind)) as one:
        require_host(one, None)
        require_host(one, "node1")
        assert find_host(one, "node1") == 1


@pytest.mark.parametrize(
    ("wanted", "error"), [(None, StateUnexpected), ("off", StateUnexpected), ("none", Rejected)]
)
@responses.activate
def test_no_host_that_will_do(wanted: str | None, error: type[OpenNebulaError]) -> None:
    hosts = (("off", 4, "kvm"), ("broken", 3, "kvm"), ("old", 2, "vbox"))
    with answer_with(*hosts) as one, pytest.raises(error):
        require_host(one, wanted)
