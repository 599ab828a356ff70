"""one.secgroup.* and one.secgrouppool.*"""

from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template, Value

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

FIRST_ID = 100
DEFAULT = 0


def create(sim: "Sim", oid: int, owner: Obj, name: str, template: Template) -> None:
    """Write a security group."""
    body = common.owned_head("SECURITY_GROUP", oid, owner, name)
    body.extend(node(f"{what}_VMS") for what in ("UPDATED", "OUTDATED", "UPDATING", "ERROR"))
    body.append(template.to_xml())
    sim.store.put(Obj("secgroup", oid, body))


def first_template() -> Template:
    """Rules of group 0: everything out, everything in."""
    rules: list[tuple[str, Value]] = [
        ("RULE", {"PROTOCOL": "ALL", "RULE_TYPE": way}) for way in ("OUTBOUND", "INBOUND")
    ]
    text = "The default security group is added to every network. Use it to add default filters"
    return Template([("DESCRIPTION", text), *rules])


def allocate(call: Call, text: str) -> int:
    """one.secgroup.allocate"""
    template = common.parse(text)
    auth.require_create(call, "secgroup")
    name = "".join(str(value) for value in template.remove("NAME")[:1])
    common.require_new_name(call, "secgroup", name, call.uid)
    oid = call.sim.store.new_id("secgroup", FIRST_ID)
    create(call.sim, oid, call.user, name, template)
    return oid


def delete(call: Call, oid: int) -> int:
    """one.secgroup.delete"""
    group = call.sim.store.get("secgroup", oid)
    auth.require(call, Right.MANAGE, group)
    if oid == DEFAULT:
        raise OnedError(
            Code.ACTION,
            "Cannot delete security group. The default security group (ID 0) cannot be deleted.",
        )
    call.sim.store.delete("secgroup", oid)
    return oid


METHODS: dict[str, Handler] = {
    **common.owned_methods("secgroup", "one.secgroup"),
    "one.secgroup.allocate": allocate,
    "one.secgroup.delete": delete,
    "one.secgrouppool.info": common.lister("secgroup", "SECURITY_GROUP_POOL"),
}
