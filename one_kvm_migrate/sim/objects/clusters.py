"""one.cluster.* and one.clusterpool.*"""

from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

FIRST_ID = 100
DEFAULT = 0
# Kind of a member -> the list in the cluster.
LISTS = {"host": "HOSTS", "datastore": "DATASTORES", "vnet": "VNETS"}


def create(sim: "Sim", oid: int, name: str) -> None:
    """Write an empty cluster."""
    body = node(
        "CLUSTER",
        None,
        node("ID", oid),
        node("NAME", name),
        *(node(tag) for tag in LISTS.values()),
        Template([("RESERVED_CPU", ""), ("RESERVED_MEM", "")]).to_xml(),
    )
    sim.store.put(Obj("cluster", oid, body))


def join(sim: "Sim", cluster_id: int, member: Obj) -> None:
    """Write *member* as part of the cluster; a host leaves its old one."""
    cluster = sim.store.get("cluster", cluster_id)
    if member.kind == "host":
        leave(sim, member.number("CLUSTER_ID", -1), member)
        member.set("CLUSTER_ID", cluster_id)
        member.set("CLUSTER", cluster.name)
    else:
        doc.add_id(member.body, "CLUSTERS", cluster_id)
    doc.add_id(cluster.body, LISTS[member.kind], member.oid)
    sim.store.put(cluster)
    sim.store.put(member)


def leave(sim: "Sim", cluster_id: int, member: Obj) -> None:
    """Take *member* out of the cluster's list; the caller writes the member."""
    cluster = sim.store.find("cluster", cluster_id)
    if cluster is not None:
        doc.remove_id(cluster.body, LISTS[member.kind], member.oid)
        sim.store.put(cluster)


def leave_all(sim: "Sim", member: Obj) -> None:
    """Take a member that goes away out of every cluster."""
    for cluster in sim.store.all("cluster"):
        leave(sim, cluster.oid, member)


def allocate(call: Call, name: str) -> int:
    """one.cluster.allocate"""
    auth.require_create(call, "cluster")
    common.require_new_name(call, "cluster", name, None)
    oid = call.sim.store.new_id("cluster", FIRST_ID)
    create(call.sim, oid, name)
    return oid


def delete(call: Call, oid: int) -> int:
    """one.cluster.delete: only when nothing is in it."""
    cluster = call.sim.store.get("cluster", oid)
    auth.require(call, Right.ADMIN, cluster)
    if oid == DEFAULT or any(doc.ids(cluster.body, tag) for tag in LISTS.values()):
        why = "Cluster 0 cannot be deleted." if oid == DEFAULT else f"Cluster {oid} is not empty."
        raise OnedError(Code.ACTION, f"Cannot delete cluster. {why}")
    call.sim.store.delete("cluster", oid)
    return oid


def _adder(kind: str) -> Handler:
    def add(call: Call, cluster_id: int, member_id: int) -> int:
        cluster = call.sim.store.get("cluster", cluster_id)
        member = call.sim.store.get(kind, member_id)
        auth.require(call, Right.ADMIN, cluster)
        auth.require(call, Right.ADMIN, member)
        join(call.sim, cluster_id, member)
        return cluster_id

    return add


def _remover(kind: str) -> Handler:
    def remove(call: Call, cluster_id: int, member_id: int) -> int:
        cluster = call.sim.store.get("cluster", cluster_id)
        member = call.sim.store.get(kind, member_id)
        auth.require(call, Right.ADMIN, cluster)
        auth.require(call, Right.ADMIN, member)
        if kind == "host":
            # A host is always in a cluster: removed from one, it is in the default one.
            join(call.sim, DEFAULT, member)
            return cluster_id
        leave(call.sim, cluster_id, member)
        doc.remove_id(member.body, "CLUSTERS", cluster_id)
        call.sim.store.put(member)
        return cluster_id

    return remove


METHODS: dict[str, Handler] = {
    "one.cluster.allocate": allocate,
    "one.cluster.delete": delete,
    "one.cluster.info": common.getter("cluster"),
    "one.cluster.rename": common.renamer("cluster", per_owner=False),
    "one.cluster.update": common.updater("cluster"),
    "one.cluster.addhost": _adder("host"),
    "one.cluster.delhost": _remover("host"),
    "one.cluster.adddatastore": _adder("datastore"),
    "one.cluster.deldatastore": _remover("datastore"),
    "one.cluster.addvnet": _adder("vnet"),
    "one.cluster.delvnet": _remover("vnet"),
    "one.clusterpool.info": common.lister_of_all("cluster", "CLUSTER_POOL"),
}
