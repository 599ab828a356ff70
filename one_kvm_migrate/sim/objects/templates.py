"""one.template.* and one.templatepool.*; machines are made from them by sim.vm."""

import time

from one_kvm_migrate.sim import auth
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import common, images
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template


def allocate(call: Call, text: str) -> int:
    """one.template.allocate"""
    template = common.parse(text)
    name = "".join(str(value) for value in template.remove("NAME")[:1])
    auth.require_create(call, "template")
    auth.require_unrestricted(call, "vm", template)
    return _insert(call, name, template)


def _insert(call: Call, name: str, template: Template) -> int:
    problem = common.check_name(name)
    if problem:
        raise OnedError(Code.INTERNAL, problem)
    common.require_new_name(call, "template", name, call.uid)
    oid = call.sim.store.new_id("template")
    body = common.owned_head("VMTEMPLATE", oid, call.user, name)
    body.append(node("REGTIME", int(time.time())))
    body.append(template.to_xml())
    call.sim.store.put(Obj("template", oid, body))
    return oid


def clone(call: Call, oid: int, name: str, with_images: bool = False) -> int:
    """one.template.clone; *with_images* clones the disks' images too."""
    source = call.sim.store.get("template", oid)
    auth.require(call, Right.USE, source)
    auth.require_create(call, "template")
    template = source.template()
    template.remove("NAME")
    if with_images:
        for number, disk in enumerate(template.vectors("DISK")):
            if disk.get("IMAGE_ID", "").isdigit():
                made = images.clone(call, int(disk["IMAGE_ID"]), f"{name}-disk-{number}")
                disk["IMAGE_ID"] = str(made)
    return _insert(call, name, template)


def delete(call: Call, oid: int, with_images: bool = False) -> int:
    """one.template.delete; *with_images* deletes the disks' images too."""
    obj = call.sim.store.get("template", oid)
    auth.require(call, Right.MANAGE, obj)
    common.require_unlocked(call, obj, Right.MANAGE)
    if with_images:
        for disk in obj.template().vectors("DISK"):
            if disk.get("IMAGE_ID", "").isdigit():
                images.delete(call, int(disk["IMAGE_ID"]))
    call.sim.store.delete("template", oid)
    return oid


def info(call: Call, oid: int, extended: bool = False, decrypt: bool = False) -> str:
    """one.template.info; *extended* shows disks as a new machine would get them."""
    from one_kvm_migrate.sim.vm import disks, imageuse

    obj = call.sim.store.get("template", oid)
    auth.require(call, Right.USE, obj)
    if extended:
        template = obj.template()
        for number, disk in enumerate(template.vectors("DISK")):
            if disks.is_image(disk):
                disks.describe(call, disk, imageuse.find(call, disk), number)
        obj.set_template(template)
    return obj.xml()


def instantiate(
    call: Call, oid: int, name: str = "", hold: bool = False, extra: str = "", copy: bool = False
) -> int:
    """one.template.instantiate; *copy* makes a persistent private copy first."""
    from one_kvm_migrate.sim.vm import create

    source = call.sim.store.get("template", oid)
    auth.require(call, Right.USE, source)
    common.require_unlocked(call, source, Right.USE)
    if copy:
        name = name or f"{source.name}-copy"
        source = call.sim.store.get("template", clone(call, oid, name, with_images=True))
        for disk in source.template().vectors("DISK"):
            if disk.get("IMAGE_ID", "").isdigit():
                images.make_persistent(call, int(disk["IMAGE_ID"]), on=True)
    return create.instantiate(call, source, name, hold=hold, extra=extra)


METHODS: dict[str, Handler] = {
    **common.owned_methods("template", "one.template", restricted="vm"),
    "one.template.allocate": allocate,
    "one.template.clone": clone,
    "one.template.delete": delete,
    "one.template.info": info,
    "one.template.instantiate": instantiate,
    "one.templatepool.info": common.lister("template", "VMTEMPLATE_POOL"),
}
