"""Who may do what: permission bits, ACL rules, restricted attributes."""

from enum import IntFlag

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.call import ONEADMIN, Call
from one_kvm_migrate.sim.doc import Element, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template


class Right(IntFlag):
    """Rights as in ACL rules."""

    USE = 1
    MANAGE = 2
    ADMIN = 4
    CREATE = 8


# Resource bits of ACL rules by kind, with the names used in messages.
RESOURCES = {
    "vm": (0x1000000000, "VM"),
    "host": (0x2000000000, "HOST"),
    "vnet": (0x4000000000, "NET"),
    "image": (0x8000000000, "IMAGE"),
    "user": (0x10000000000, "USER"),
    "template": (0x20000000000, "TEMPLATE"),
    "group": (0x40000000000, "GROUP"),
    "acl": (0x80000000000, "ACL"),
    "datastore": (0x100000000000, "DATASTORE"),
    "cluster": (0x200000000000, "CLUSTER"),
    "document": (0x400000000000, "DOCUMENT"),
    "zone": (0x800000000000, "ZONE"),
    "secgroup": (0x1000000000000, "SECGROUP"),
    "vdc": (0x2000000000000, "VDC"),
    "vrouter": (0x4000000000000, "VROUTER"),
    "marketplace": (0x8000000000000, "MARKETPLACE"),
    "marketplaceapp": (0x10000000000000, "MARKETPLACEAPP"),
    "vmgroup": (0x20000000000000, "VMGROUP"),
    "vntemplate": (0x40000000000000, "VNTEMPLATE"),
    "hook": (0x80000000000000, "HOOK"),
    "backupjob": (0x100000000000000, "BACKUPJOB"),
}
INDIVIDUAL, GROUP, ALL, CLUSTER = 0x100000000, 0x200000000, 0x400000000, 0x800000000
ID_MASK = 0xFFFFFFFF


def permissions(bits: str = "110000000") -> Element:
    """The PERMISSIONS element; *bits* are owner U M A, group U M A, other U M A."""
    names = [f"{who}_{right}" for who in ("OWNER", "GROUP", "OTHER") for right in "UMA"]
    pairs = zip(names, bits, strict=True)
    return node("PERMISSIONS", None, *(node(name, bit) for name, bit in pairs))


def allowed(call: Call, right: Right, obj: Obj) -> bool:
    """True if the caller has *right* on *obj*."""
    return call.is_admin or _by_bits(call, right, obj) or _by_rules(call, right, obj)


def require(call: Call, right: Right, obj: Obj) -> None:
    """Raise OnedError(AUTHORIZATION) unless the caller has *right* on *obj*."""
    if not allowed(call, right, obj):
        name = RESOURCES[obj.kind][1]
        raise _refused(call, f"Not authorized to perform {right.name} {name} [{obj.oid}].")


def require_create(call: Call, kind: str) -> None:
    """Raise OnedError(AUTHORIZATION) unless the caller may make objects of *kind*."""
    if not call.is_admin and not _rule_matches(call, Right.CREATE, kind, None):
        raise _refused(call, f"Not authorized to perform CREATE {RESOURCES[kind][1]}.")


def require_unrestricted(call: Call, kind: str, template: Template) -> None:
    """Raise OnedError(AUTHORIZATION) if a non-admin sets an attribute only admins may set."""
    if call.is_admin:
        return
    found = restricted_attribute(call.sim.oned.restricted(kind), template)
    if found is not None:
        raise _refused(call, f"Template includes a restricted attribute {found}.")


def restricted_attribute(names: list[str], template: Template) -> str | None:
    """The first of *names* (NAME or VECTOR/KEY) that *template* sets, or None."""
    for wanted in names:
        name, _, key = wanted.partition("/")
        if not key and template.has(name):
            return name
        if key and any(key in vector for vector in template.vectors(name)):
            return wanted
    return None


def _refused(call: Call, why: str) -> OnedError:
    return OnedError(Code.AUTHORIZATION, f"User [{call.uid}] : {why}")


def _by_bits(call: Call, right: Right, obj: Obj) -> bool:
    letter = (right.name or "")[0]
    if obj.kind == "user":
        return obj.oid == call.uid and right in (Right.USE, Right.MANAGE)
    if obj.body.find("PERMISSIONS") is None:
        return False
    if doc.get_int(obj.body, f"PERMISSIONS/OTHER_{letter}"):
        return True
    if obj.uid == call.uid and doc.get_int(obj.body, f"PERMISSIONS/OWNER_{letter}"):
        return True
    return obj.gid in call.groups and bool(doc.get_int(obj.body, f"PERMISSIONS/GROUP_{letter}"))


def _by_rules(call: Call, right: Right, obj: Obj) -> bool:
    return _rule_matches(call, right, obj.kind, obj)


def _rule_matches(call: Call, right: Right, kind: str, obj: Obj | None) -> bool:
    subjects = {ALL, INDIVIDUAL | call.uid, *(GROUP | gid for gid in call.groups)}
    bit = RESOURCES[kind][0]
    for rule in call.sim.store.all("acl"):
        user, resource, rights = (int(rule.text(tag), 16) for tag in ("USER", "RESOURCE", "RIGHTS"))
        if user in subjects and resource & bit and rights & right and _covers(resource, obj):
            return True
    return False


def _covers(resource: int, obj: Obj | None) -> bool:
    number = resource & ID_MASK
    if resource & ALL:
        return True
    if obj is None:
        return False
    if resource & INDIVIDUAL:
        return number == obj.oid
    if resource & GROUP:
        return number == obj.gid
    clusters = [*doc.ids(obj.body, "CLUSTERS"), obj.number("CLUSTER_ID", -1)]
    return bool(resource & CLUSTER) and number in clusters


def require_owner_admin(call: Call) -> None:
    """Raise OnedError(AUTHORIZATION) unless the caller is in the oneadmin group."""
    if not call.is_admin:
        raise _refused(call, f"Not authorized to perform ADMIN USER [{ONEADMIN}].")
