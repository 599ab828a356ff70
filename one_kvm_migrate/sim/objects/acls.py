"""one.acl.*: rules as four hexadecimal numbers, and their text form."""

from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth
from one_kvm_migrate.sim.auth import ALL, CLUSTER, GROUP, ID_MASK, INDIVIDUAL, RESOURCES, Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects.common import pool
from one_kvm_migrate.sim.store import Obj

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

ZONE_0 = INDIVIDUAL


def add(sim: "Sim", user: int, resource: int, rights: int, zone: int) -> int:
    """Make a rule and return its number."""
    oid = sim.store.new_id("acl")
    text = " ".join(
        (_subject(user), _resource(resource), _rights(rights), _subject(zone).lstrip("@"))
    )
    fields = (("USER", user), ("RESOURCE", resource), ("RIGHTS", rights), ("ZONE", zone))
    body = node(
        "ACL",
        None,
        node("ID", oid),
        *(node(tag, f"{value:x}") for tag, value in fields),
        node("STRING", text),
    )
    sim.store.put(Obj("acl", oid, body))
    return oid


def add_group_rules(sim: "Sim", gid: int) -> None:
    """What a new group may use: hosts, networks and datastores of this zone."""
    user = GROUP | gid
    for kind, rights in (("host", Right.MANAGE), ("vnet", Right.USE), ("datastore", Right.USE)):
        add(sim, user, RESOURCES[kind][0] | ALL, rights, ZONE_0)


def add_first_rules(sim: "Sim") -> None:
    """The rules of a fresh OpenNebula."""
    kinds = ("vm", "image", "template", "document", "secgroup", "vmgroup", "backupjob")
    made_by_users = sum(RESOURCES[kind][0] for kind in kinds)
    add(sim, GROUP | 1, made_by_users | ALL, Right.CREATE, ALL)
    add(sim, ALL, RESOURCES["zone"][0] | ALL, Right.USE, ALL)
    market = RESOURCES["marketplace"][0] | RESOURCES["marketplaceapp"][0]
    add(sim, ALL, market | ALL, Right.USE, ALL)
    add_group_rules(sim, 1)


def _subject(value: int) -> str:
    if value & ALL:
        return "*"
    prefix = "@" if value & GROUP else "%" if value & CLUSTER else "#"
    return f"{prefix}{value & ID_MASK}"


def _resource(value: int) -> str:
    names = "+".join(name for bit, name in RESOURCES.values() if value & bit)
    return f"{names}/{_subject(value)}"


def _rights(value: int) -> str:
    return "+".join(right.name or "" for right in Right if value & right)


def info(call: Call) -> str:
    """one.acl.info: by user, then in the order of creation."""
    rules = sorted(call.sim.store.all("acl"), key=lambda rule: (_user(rule), rule.oid))
    return pool("ACL_POOL", (rule.body for rule in rules))


def _user(rule: Obj) -> int:
    return int(rule.text("USER"), 16)


def add_rule(call: Call, user: str, resource: str, rights: str, zone: str = "400000000") -> int:
    """one.acl.addrule"""
    auth.require_owner_admin(call)
    try:
        numbers = [int(text, 16) for text in (user, resource, rights, zone)]
    except ValueError as exc:
        raise OnedError(Code.INTERNAL, f"Malformed rule: {exc}") from exc
    if not numbers[2] & 0xF or not _resource(numbers[1]).partition("/")[0]:
        raise OnedError(Code.INTERNAL, "Malformed rule: no resource or no right in it")
    fields = [f"{number:x}" for number in numbers]
    for rule in call.sim.store.all("acl"):
        if [rule.text(tag) for tag in ("USER", "RESOURCE", "RIGHTS", "ZONE")] == fields:
            raise OnedError(Code.INTERNAL, f"Rule {rule.text('STRING')} already exists")
    return add(call.sim, *numbers)


def delete_rule(call: Call, oid: int) -> int:
    """one.acl.delrule"""
    auth.require_owner_admin(call)
    if call.sim.store.find("acl", oid) is None:
        raise OnedError(Code.INTERNAL, f"Rule {oid} does not exist")
    call.sim.store.delete("acl", oid)
    return oid


METHODS: dict[str, Handler] = {
    "one.acl.info": info,
    "one.acl.addrule": add_rule,
    "one.acl.delrule": delete_rule,
}
