"""NIC vectors: leases, what the network adds, ETHn variables and security group rules."""

import secrets
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.objects import vnets
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import context
from one_kvm_migrate.sim.vm.imageuse import refused

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

FROM_NETWORK = ("BRIDGE", "BRIDGE_TYPE", "PHYDEV", "VLAN_ID", "VN_MAD")
FROM_NETWORK_TEMPLATE = ("FILTER", "MTU", "GUEST_MTU", "SECURITY_GROUPS", "INBOUND_AVG_BW",
                         "OUTBOUND_AVG_BW")  # fmt: skip


def has_network(nic: dict[str, str]) -> bool:
    """True for NICs that belong to a virtual network."""
    return "NETWORK_ID" in nic or "NETWORK" in nic


def find(call: Call, nic: dict[str, str]) -> Obj:
    """The network a NIC names. Raises OnedError with oned's text when there is none."""
    store = call.sim.store
    if "NETWORK_ID" in nic:
        number = nic["NETWORK_ID"]
        network = store.find("vnet", int(number)) if number.isdigit() else None
        if network is None:
            raise refused(f"Virtual network with ID: {number} does not exist")
    else:
        owner = call.uid
        if "NETWORK_UNAME" in nic:
            user = store.named("user", nic["NETWORK_UNAME"])
            owner = user.oid if user is not None else -1
        network = store.named("vnet", nic["NETWORK"], owner)
        if network is None:
            raise refused(
                f"User {owner} does not own a network with name: {nic['NETWORK']} . "
                "Set NETWORK_UNAME or NETWORK_UID of owner in NIC."
            )
    auth.require(call, Right.USE, network)
    return network


def take(call: Call, vm_id: int, nic: dict[str, str], nic_id: int) -> Template:
    """Complete *nic* and lease an address for machine *vm_id*; returns the network's template.

    A NIC without network only gets numbers and, if it has none, a MAC address.
    """
    nic["NIC_ID"] = str(nic_id)
    nic.setdefault("NAME", f"NIC{nic_id}")
    nic["TARGET"] = f"one-{vm_id}-{nic_id}"
    if not has_network(nic):
        nic.setdefault(
            "MAC", f"02:00:{':'.join(f'{secrets.randbelow(256):02x}' for _ in range(4))}"
        )
        return Template()
    network = find(call, nic)
    lease = vnets.lease(
        call.sim, network.oid, vm_id, ip=nic.get("IP") or None, mac=nic.get("MAC") or None
    )
    # Leasing changed the network; what follows must be read from its new state.
    network = call.sim.store.get("vnet", network.oid)
    nic.update({key: network.text(key) for key in FROM_NETWORK if network.text(key)})
    conf = network.template()
    for key in FROM_NETWORK_TEMPLATE:
        if conf.get(key):
            nic.setdefault(key, conf.get(key))
    nic["NETWORK"], nic["NETWORK_ID"] = network.name, str(network.oid)
    nic["CLUSTER_ID"] = ",".join(str(i) for i in doc.ids(network.body, "CLUSTERS"))
    nic.update(lease)
    return conf


def give_back(sim: "Sim", vm_id: int, template: Template) -> None:
    """Return the leases of all NICs of machine *vm_id*."""
    for nic in template.vectors("NIC"):
        release(sim, vm_id, nic)


def release(sim: "Sim", vm_id: int, nic: dict[str, str]) -> None:
    """Return the lease of one NIC; nothing happens for NICs without network."""
    if nic.get("NETWORK_ID", "").isdigit() and nic.get("MAC"):
        vnets.release(sim, int(nic["NETWORK_ID"]), vm_id, nic["MAC"])


def add_rules(sim: "Sim", template: Template) -> None:
    """Set SECURITY_GROUP_RULE from the security groups of all NICs, each group once."""
    template.remove("SECURITY_GROUP_RULE")
    numbers: list[int] = []
    for nic in template.vectors("NIC"):
        words = nic.get("SECURITY_GROUPS", "").split(",")
        numbers += [int(word) for word in words if word.isdigit() and int(word) not in numbers]
    for number in numbers:
        group = sim.store.find("secgroup", number)
        if group is None:
            continue
        for rule in group.template().vectors("RULE"):
            known = {"SECURITY_GROUP_ID": str(number), "SECURITY_GROUP_NAME": group.name}
            template.add("SECURITY_GROUP_RULE", {**rule, **known})


def add_context(template: Template, nic: dict[str, str], network: Template) -> None:
    """Add the NIC's ETHn variables when the machine wants them."""
    variables = template.vector("CONTEXT")
    if variables is not None and context.wants_network(variables):
        context.add_nic(variables, nic, network)


def next_id(template: Template) -> int:
    """The number a new NIC gets."""
    return max((int(nic["NIC_ID"]) for nic in template.vectors("NIC")), default=-1) + 1


def by_id(template: Template, nic_id: int) -> dict[str, str] | None:
    """The NIC with that number (changing it changes *template*), or None."""
    wanted = str(nic_id)
    return next((n for n in template.vectors("NIC") if n.get("NIC_ID") == wanted), None)
