"""Virtual networks: which one, and room for a guest's own MAC address."""

from dataclasses import dataclass

from lxml import etree

from one_kvm_migrate.errors import StateUnexpected
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.markers import Marker
from one_kvm_migrate.opennebula.template import to_xml
from one_kvm_migrate.opennebula.xmlread import ALL, number, pick, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A virtual network by id and name."""

    id: int
    name: str


def find_network(client: Client, wanted: str) -> Network:
    """The virtual network *wanted* (id or name). Raises Rejected."""
    item = pick(client.document("one.vnpool.info", *ALL), "VNET", wanted, "network")
    return Network(id=number(item, "ID"), name=text(item, "NAME"))


def range_of_mac(client: Client, network_id: int, mac: str) -> int | None:
    """Id of the network's address range that holds *mac*, or None.

    oned leases an address to a NIC with a MAC only when a range holds that MAC.
    """
    wanted = _mac_number(mac)
    for item in _ranges(client, network_id):
        first = text(item, "MAC")
        if first and 0 <= wanted - _mac_number(first) < number(item, "SIZE"):
            return number(item, "AR_ID")
    return None


def find_range_by_marker(client: Client, network_id: int, marker: Marker) -> int | None:
    """Id of the network's address range that carries *marker*, or None."""
    for item in _ranges(client, network_id):
        if marker.matches(item):
            return number(item, "AR_ID")
    return None


def leased_macs(client: Client, network_id: int) -> set[str]:
    """MAC addresses (lower case) that machines lease in the network."""
    return {
        text(lease, "MAC").lower()
        for item in _ranges(client, network_id)
        for lease in item.findall("LEASES/LEASE")
    }


def add_mac_range(client: Client, network_id: int, mac: str, marker: Marker) -> int:
    """Add a range of one address for *mac*, marked as ours, and return its id."""
    marks = {name: str(value) for name, value in marker.attributes()}
    template = to_xml([("AR", {"TYPE": "ETHER", "MAC": mac, "SIZE": "1", **marks})])
    client.call("one.vn.add_ar", network_id, template)
    added = find_range_by_marker(client, network_id, marker)
    if added is None:
        raise StateUnexpected(f"network {network_id} took an address range but does not list it")
    return added


def remove_range(client: Client, network_id: int, marker: Marker) -> None:
    """Remove the range that carries *marker*; one already gone is success."""
    present = find_range_by_marker(client, network_id, marker)
    if present is not None:
        client.call("one.vn.rm_ar", network_id, present)


def is_unicast(mac: str) -> bool:
    """True for an address that one adapter can have: not a group's, not all zeros."""
    return _mac_number(mac) != 0 and not int(mac[:2], 16) & 1


def _ranges(client: Client, network_id: int) -> list[etree._Element]:
    return client.document("one.vn.info", network_id).findall("AR_POOL/AR")


def _mac_number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)
