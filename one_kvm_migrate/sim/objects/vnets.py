"""one.vn.*, one.vnpool.*, and the leases of machines."""

import ipaddress
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth, doc, quotas
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import clusters, common
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

INIT, READY, LOCK_CREATE = 0, 1, 2
BITS = "110000000"
AR_TYPES = ("IP4", "ETHER")
# Elements of the document that are copies of template attributes.
_COPIED = ("BRIDGE", "BRIDGE_TYPE", "VN_MAD", "PHYDEV", "VLAN_ID", "OUTER_VLAN_ID")
MAX_AR_SIZE = 1 << 24
# What oned itself puts into a range; a user's own attributes (marks, say) are kept as they are.
_DERIVED = ("AR_ID", "LEASES", "USED_LEASES", "MAC_END", "IP_END")


def allocate(call: Call, text: str, cluster_id: int = -1) -> int:
    """one.vn.allocate: LOCK_CREATE at first, READY once the driver has made it."""
    return create(call, common.parse(text), cluster_id)


def create(call: Call, template: Template, cluster_id: int = -1) -> int:
    """Write the network that *template* describes and queue its making; returns its number."""
    auth.require_create(call, "vnet")
    name = "".join(str(value) for value in template.remove("NAME")[:1])
    common.require_new_name(call, "vnet", name, call.uid)
    _complete(call, template)
    oid = call.sim.store.new_id("vnet")
    if not template.get("BRIDGE"):
        template.set("BRIDGE", f"onebr{oid}")
    network = Obj("vnet", oid, _body(call, oid, name, template))
    call.sim.store.put(network)
    clusters.join(call.sim, clusters.DEFAULT if cluster_id == -1 else cluster_id, network)
    schedule(call.sim, oid)
    return oid


def _complete(call: Call, template: Template) -> None:
    vn_mad = template.get("VN_MAD")
    conf = call.sim.oned.named("VN_MAD_CONF", vn_mad)
    if not vn_mad or conf is None:
        why = f"VN_MAD named {vn_mad} is not defined in oned.conf" if vn_mad else "No VN_MAD in"
        raise OnedError(
            Code.ALLOCATE,
            "Error allocating a new virtual network. " + (why if vn_mad else f"{why} template."),
        )
    for vector in template.vectors("AR"):
        _check_ar(vector)
    template.set("BRIDGE_TYPE", conf.get("BRIDGE_TYPE", "none").split(",")[0])
    for key, value in (("PHYDEV", ""), ("SECURITY_GROUPS", "0")):
        if not template.has(key):
            template.set(key, value)


def _check_ar(vector: dict[str, str]) -> None:
    vector["TYPE"] = vector.get("TYPE", "IP4" if "IP" in vector else "ETHER").upper()
    if vector["TYPE"] not in AR_TYPES:
        raise OnedError(Code.ALLOCATE, f"Unknown or missing type: {vector['TYPE']}")
    size = vector.get("SIZE", "")
    if not size.isdigit() or not 0 < int(size) <= MAX_AR_SIZE:
        raise OnedError(Code.ALLOCATE, "Wrong SIZE for address range")
    if vector["TYPE"] == "IP4":
        try:
            ipaddress.IPv4Address(vector.get("IP", ""))
        except ValueError as exc:
            raise OnedError(Code.ALLOCATE, "Wrong or empty IP attribute") from exc


def _body(call: Call, oid: int, name: str, template: Template) -> Element:
    def copy(tag: str) -> Element:
        return cdata(tag, template.get(tag)) if template.get(tag) else node(tag)

    body = common.owned_head("VNET", oid, call.user, name, BITS)
    body.append(node("CLUSTERS"))
    body.extend(copy(tag) for tag in ("BRIDGE", "BRIDGE_TYPE"))
    body.extend([cdata("STATE", LOCK_CREATE), cdata("PREV_STATE", INIT)])
    body.extend([node("PARENT_NETWORK_ID"), node("TEMPLATE_ID")])
    body.extend(copy(tag) for tag in ("VN_MAD", "PHYDEV", "VLAN_ID", "OUTER_VLAN_ID"))
    body.extend(node(f"{tag}_AUTOMATIC", 0) for tag in ("VLAN_ID", "OUTER_VLAN_ID"))
    body.append(node("USED_LEASES", 0))
    body.append(node("VROUTERS"))
    body.extend(node(f"{what}_VMS") for what in ("UPDATED", "OUTDATED", "UPDATING", "ERROR"))
    body.extend([template.to_xml(), node("AR_POOL")])
    return body


def schedule(sim: "Sim", oid: int) -> None:
    """Queue what makes a new network ready."""
    sim.store.after_commit(lambda: sim.jobs.submit(lambda: _created(sim, oid), label=f"vnet {oid}"))


def _created(sim: "Sim", oid: int) -> None:
    with sim.store.transaction():
        network = sim.store.find("vnet", oid)
        if network is None or network.number("STATE") != LOCK_CREATE:
            return
        template = network.template()
        for vector in template.vectors("AR"):
            _add_ar(network, vector)
        template.remove("AR")
        network.set_template(template)
        network.set("STATE", READY)
        sim.events.update(network)


def _add_ar(network: Obj, vector: dict[str, str]) -> None:
    pool = _pool(network)
    number = max((doc.get_int(ar, "AR_ID") for ar in pool), default=-1) + 1
    known = {key: value for key, value in vector.items() if key not in _DERIVED}
    if known["TYPE"] == "IP4":
        known.setdefault("MAC", ip_to_mac(known["IP"]))
    else:
        known.setdefault("MAC", f"02:00:{network.oid % 256:02x}:{number % 256:02x}:00:00")
    items = [cdata(key, known[key]) for key in sorted(known)]
    pool.append(node("AR", None, cdata("AR_ID", number), *items, node("LEASES")))


def _pool(network: Obj) -> Element:
    pool = network.body.find("AR_POOL")
    assert pool is not None
    return pool


def ip_to_mac(address: str) -> str:
    """oned's MAC for an IPv4 address: MAC_PREFIX 02:00 and the address."""
    return "02:00:" + ipaddress.IPv4Address(address).packed.hex(":")


def _address(ar: Element, index: int) -> dict[str, str]:
    mac = int(doc.get(ar, "MAC").replace(":", ""), 16) + index
    found = {"MAC": mac.to_bytes(6, "big").hex(":")}
    if doc.get(ar, "TYPE") == "IP4":
        found["IP"] = str(ipaddress.IPv4Address(doc.get(ar, "IP")) + index)
    return found


def lease(
    sim: "Sim", vnet_id: int, vm_id: int, *, ip: str | None = None, mac: str | None = None
) -> dict[str, str]:
    """Take an address (the wanted one, or the next free) for machine *vm_id*.

    Returns AR_ID, MAC and, in IP4 ranges, IP. Raises OnedError(ALLOCATE) when there is none.
    Call it inside a transaction.
    """
    network = sim.store.get("vnet", vnet_id)
    wanted = {key: value for key, value in (("IP", ip), ("MAC", mac)) if value}
    for ar in _pool(network):
        found = _free_address(sim, network, ar, wanted)
        if found is None:
            continue
        leases = ar.find("LEASES")
        assert leases is not None
        items = [cdata(key, found[key]) for key in sorted(found)]
        leases.append(node("LEASE", None, *items, cdata("VM", vm_id)))
        network.set("USED_LEASES", network.number("USED_LEASES") + 1)
        quotas.charge(sim, (network.uid, network.gid), "NETWORK", {"LEASES": 1}, str(vnet_id))
        sim.store.put(network)
        return {"AR_ID": doc.get(ar, "AR_ID"), **found}
    raise OnedError(Code.ALLOCATE, f"Cannot get IP/MAC lease from virtual network {vnet_id}.")


def _free_address(
    sim: "Sim", network: Obj, ar: Element, wanted: dict[str, str]
) -> dict[str, str] | None:
    size = doc.get_int(ar, "SIZE")
    used = {doc.get(item, "MAC") for item in ar.iter("LEASE")}
    if wanted:
        candidates = (_address(ar, index) for index in range(size))
        fits = (item for item in candidates if wanted.items() <= item.items())
        return next((item for item in fits if item["MAC"] not in used), None)
    # oned hands out addresses round robin: one just given back is not the next one given.
    first = sim.store.new_id(f"lease:{network.oid}:{doc.get(ar, 'AR_ID')}")
    for step in range(size):
        found = _address(ar, (first + step) % size)
        if found["MAC"] not in used:
            return found
    return None


def release(sim: "Sim", vnet_id: int, vm_id: int, mac: str) -> None:
    """Give back the address *mac* of machine *vm_id*; nothing happens if it has none."""
    network = sim.store.find("vnet", vnet_id)
    if network is None:
        return
    for item in list(network.body.iter("LEASE")):
        parent = item.getparent()
        if doc.get(item, "MAC") == mac and doc.get_int(item, "VM") == vm_id and parent is not None:
            parent.remove(item)
            network.set("USED_LEASES", network.number("USED_LEASES") - 1)
            owner = (network.uid, network.gid)
            quotas.release(sim, owner, "NETWORK", {"LEASES": 1}, str(vnet_id))
    sim.store.put(network)


def delete(call: Call, oid: int) -> int:
    """one.vn.delete: only when no lease is taken."""
    network = call.sim.store.get("vnet", oid)
    auth.require(call, Right.MANAGE, network)
    if network.number("USED_LEASES"):
        raise OnedError(
            Code.ACTION,
            "Cannot delete virtual network. Can not remove a virtual network with leases in use",
        )
    clusters.leave_all(call.sim, network)
    call.sim.store.delete("vnet", oid)
    return oid


def add_ar(call: Call, oid: int, text: str) -> int:
    """one.vn.add_ar"""
    network = call.sim.store.get("vnet", oid)
    auth.require(call, Right.ADMIN, network)
    vectors = common.parse(text).vectors("AR")
    if not vectors:
        raise OnedError(Code.INTERNAL, "Wrong AR attribute in template")
    for vector in vectors:
        _check_ar(vector)
        _add_ar(network, vector)
    call.sim.store.put(network)
    return oid


def rm_ar(call: Call, oid: int, ar_id: int, force: bool = False) -> int:
    """one.vn.rm_ar"""
    network = call.sim.store.get("vnet", oid)
    auth.require(call, Right.ADMIN, network)
    for ar in _pool(network):
        if doc.get_int(ar, "AR_ID", -1) == ar_id:
            if ar.find("LEASES/LEASE") is not None and not force:
                raise OnedError(Code.INTERNAL, "Address Range has leases in use")
            used = network.number("USED_LEASES") - len(ar.findall("LEASES/LEASE"))
            network.set("USED_LEASES", used)
            _pool(network).remove(ar)
            call.sim.store.put(network)
            return oid
    raise OnedError(Code.INTERNAL, "Address Range does not exist")


def info(call: Call, oid: int, decrypt: bool = False) -> str:
    """one.vn.info, with the ends of each range and its leases."""
    network = call.sim.store.get("vnet", oid)
    auth.require(call, Right.USE, network)
    for ar in _pool(network):
        _show_ends(ar)
    return network.xml()


def _show_ends(ar: Element) -> None:
    last = _address(ar, doc.get_int(ar, "SIZE") - 1)
    leases = ar.find("LEASES")
    assert leases is not None
    for key in ("MAC", "IP"):
        if key in last:
            leases.addprevious(cdata(f"{key}_END", last[key]))
    leases.addprevious(node("USED_LEASES", len(leases)))


def pool_info(call: Call, who: int = common.ALL, start: int = -1, end: int = -1) -> str:
    """one.vnpool.info, without leases."""
    networks = common.visible(call, "vnet", who, start, end)
    for network in networks:
        for leases in list(network.body.iter("LEASES")):
            parent = leases.getparent()
            assert parent is not None
            parent.remove(leases)
    return common.pool("VNET_POOL", (network.body for network in networks))


def _fix(call: Call, network: Obj, template: Template) -> None:
    for key in ("VN_MAD", "BRIDGE_TYPE", "BRIDGE", "SECURITY_GROUPS", "PHYDEV"):
        if not template.has(key):
            template.set(key, network.template().get(key))
    for key in _COPIED:
        if template.get(key):
            doc.put(network.body, key, template.get(key), as_cdata=True)


METHODS: dict[str, Handler] = {
    **common.owned_methods("vnet", "one.vn", fix=_fix),
    "one.vn.allocate": allocate,
    "one.vn.delete": delete,
    "one.vn.info": info,
    "one.vn.add_ar": add_ar,
    "one.vn.rm_ar": rm_ar,
    "one.vnpool.info": pool_info,
}
