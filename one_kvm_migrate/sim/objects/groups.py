"""one.group.*, one.grouppool.* and group quotas."""

from typing import TYPE_CHECKING

from lxml import etree

from one_kvm_migrate.sim import auth, doc, quotas
from one_kvm_migrate.sim.auth import GROUP, Right
from one_kvm_migrate.sim.call import ONEADMIN, Call, Handler
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import acls, common
from one_kvm_migrate.sim.objects.users import USERS_GROUP, default_quotas, write_quota
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

FIRST_ID = 100


def create(sim: "Sim", oid: int, name: str, template: Template) -> None:
    """Write an empty group."""
    body = node(
        "GROUP",
        None,
        node("ID", oid),
        node("NAME", name),
        template.to_xml(),
        node("USERS"),
        node("ADMINS"),
    )
    sim.store.put(Obj("group", oid, body))
    quotas.create(sim, "group", oid)


def allocate(call: Call, name: str) -> int:
    """one.group.allocate; the group may use this zone's resources."""
    auth.require_create(call, "group")
    common.require_new_name(call, "group", name, None)
    oid = call.sim.store.new_id("group", FIRST_ID)
    create(call.sim, oid, name, Template())
    acls.add_group_rules(call.sim, oid)
    return oid


def delete(call: Call, oid: int) -> int:
    """one.group.delete; its ACL rules go with it."""
    group = call.sim.store.get("group", oid)
    auth.require(call, Right.ADMIN, group)
    if oid in (ONEADMIN, USERS_GROUP):
        raise OnedError(Code.ACTION, "Cannot delete group. System groups cannot be deleted.")
    if doc.ids(group.body, "USERS"):
        raise OnedError(Code.ACTION, f"Cannot delete group. Group {oid} is not empty.")
    for rule in call.sim.store.all("acl"):
        if int(rule.text("USER"), 16) == GROUP | oid:
            call.sim.store.delete("acl", rule.oid)
    call.sim.store.delete("group", oid)
    call.sim.store.delete("groupquota", oid)
    return oid


def info(call: Call, oid: int = -1, decrypt: bool = False) -> str:
    """one.group.info; -1 is the caller's primary group."""
    group = call.sim.store.get("group", call.gid if oid == -1 else oid)
    if group.oid not in call.groups:
        auth.require(call, Right.USE, group)
    own = call.sim.store.get("groupquota", group.oid).body
    group.body.extend(item for item in own if item.tag != "ID")
    group.body.append(_vlan_rules(group.oid))
    group.body.append(default_quotas(call, "group"))
    return group.xml()


def _vlan_rules(oid: int) -> Element:
    return node("VLAN_RULES", None, cdata("ID", oid))


def pool_info(call: Call) -> str:
    """one.grouppool.info: each group, then its quotas and VLAN rules."""
    bodies: list[etree._Element] = []
    for group in call.sim.store.all("group"):
        if call.is_admin or group.oid in call.groups or auth.allowed(call, Right.USE, group):
            own = call.sim.store.get("groupquota", group.oid).body
            bodies += [group.body, own, _vlan_rules(group.oid)]
    return common.pool("GROUP_POOL", [*bodies, default_quotas(call, "group")])


def quota(call: Call, oid: int, text: str) -> int:
    """one.group.quota"""
    auth.require_owner_admin(call)
    call.sim.store.get("group", oid)
    if oid == ONEADMIN:
        raise OnedError(Code.ACTION, "Cannot set quotas for oneadmin group")
    return write_quota(call, "groupquota", oid, text)


def quota_info(call: Call) -> str:
    """one.groupquota.info: the default quotas."""
    return doc.dumps(default_quotas(call, "group"))


def quota_update(call: Call, text: str) -> str:
    """one.groupquota.update: change the default quotas."""
    auth.require_owner_admin(call)
    write_quota(call, "groupquota", -1, text)
    return quota_info(call)


METHODS: dict[str, Handler] = {
    "one.group.allocate": allocate,
    "one.group.delete": delete,
    "one.group.info": info,
    "one.group.update": common.updater("group"),
    "one.group.rename": common.renamer("group", per_owner=False),
    "one.group.quota": quota,
    "one.grouppool.info": pool_info,
    "one.groupquota.info": quota_info,
    "one.groupquota.update": quota_update,
}
