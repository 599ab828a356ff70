"""Hosts by name or id, and whether any can run the guests."""

from one_kvm_migrate.errors import StateUnexpected
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.xmlread import number, pick, text

# MONITORING_MONITORED and MONITORED, which the scheduler uses; INIT and MONITORING_INIT are on
# their way there, and nothing is known yet about their hypervisor.
MONITORED = (1, 2)
STARTING = (0, 6)


def find_host(client: Client, wanted: str) -> int:
    """Id of the host *wanted* (id or name). Raises Rejected."""
    return number(pick(client.document("one.hostpool.info"), "HOST", wanted, "host"), "ID")


def require_host(client: Client, wanted: str | None) -> None:
    """Return if the host *wanted*, or any if None, can start a KVM guest now or soon.

    Raises Rejected (no such host), StateUnexpected (none is monitored and enabled).
    """
    pool = client.document("one.hostpool.info")
    hosts = pool.findall("HOST") if wanted is None else [pick(pool, "HOST", wanted, "host")]
    for host in hosts:
        state, hypervisor = number(host, "STATE"), text(host, "TEMPLATE/HYPERVISOR")
        if (state in MONITORED and hypervisor == "kvm") or state in STARTING:
            return
    which = "no host" if wanted is None else f"host {wanted} is not one that"
    raise StateUnexpected(
        f"{which} can start a KVM guest now: monitored, enabled, HYPERVISOR=kvm",
        hint="See onehost list; or convert and register only, with --no-instantiate.",
    )
