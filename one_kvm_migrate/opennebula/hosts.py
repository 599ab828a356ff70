"""Hosts by name or id."""

from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.xmlread import number, pick


def find_host(client: Client, wanted: str) -> int:
    """Id of the host *wanted* (id or name). Raises Rejected."""
    return number(pick(client.document("one.hostpool.info"), "HOST", wanted, "host"), "ID")
