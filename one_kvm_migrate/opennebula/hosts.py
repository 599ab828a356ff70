"""Hosts by name or id, and whether any can run the guests."""

from one_kvm_migrate.errors import StateUnexpected
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.xmlread import number, pick, text

# MONITORING_MONITORED and MONITORED: the scheduler uses no others.
USABLE = (1, 2)


def find_host(client: Client, wanted: str) -> int:
    """Id of the host *wanted* (id or name). Raises Rejected."""
    return number(pick(client.document("one.hostpool.info"), "HOST", wanted, "host"), "ID")


def require_host(client: Client, wanted: str | None) -> None:
    """Return if the host *wanted*, or any if None, can start a KVM guest now.

    Raises Rejected (no such host), StateUnexpected (none is monitored and enabled).
    """
    pool = client.document("one.hostpool.info")
    hosts = pool.findall("HOST") if wanted is None else [pick(pool, "HOST", wanted, "host")]
    for host in hosts:
        if number(host, "STATE") in USABLE and text(host, "TEMPLATE/HYPERVISOR") == "kvm":
            return
    which = "no host" if wanted is None else f"host {wanted} is not one that"
    raise StateUnexpected(
        f"{which} can start a KVM guest now: monitored, enabled, HYPERVISOR=kvm",
        hint="See onehost list; or convert and register only, with --no-instantiate.",
    )
