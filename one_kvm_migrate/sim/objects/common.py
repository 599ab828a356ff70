"""What most kinds share: names, owners, pools, rename, chmod, chown, update, lock."""

import time
from collections.abc import Callable, Iterable

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.auth import RESOURCES, Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import Element, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template

# Bytes of UTF-8: oned's strings know no characters.
MAX_NAME = 128
REPLACE, MERGE = 0, 1
OWN_GROUP, OWN, ALL, OWN_AND_GROUPS = -4, -3, -2, -1
KEEP = -1

# Called after a template was replaced, to keep what oned keeps or derives.
Fix = Callable[[Call, Obj, Template], None]


def check_name(name: str) -> str:
    """The problem with *name* in oned's words, empty if it is fine."""
    if not name:
        return "Invalid NAME, it cannot be empty"
    if len(name.encode()) > MAX_NAME:
        return f"Invalid NAME, max length is {MAX_NAME} chars"
    bad = next((char for char in name if not char.isprintable()), None)
    return f"Invalid NAME, it contains invalid characters: {bad!r}" if bad else ""


def require_new_name(call: Call, kind: str, name: str, uid: int | None) -> None:
    """Raise OnedError(ALLOCATE) if *name* is empty, too long or taken (by *uid*, if given)."""
    label = "template" if kind == "template" else kind
    problem = check_name(name)
    taken = None if problem else call.sim.store.named(kind, name, uid)
    if taken is not None:
        problem = f"NAME is already taken by {RESOURCES[kind][1]} {taken.oid}."
    if problem:
        raise OnedError(Code.ALLOCATE, f"Error allocating a new {label}. {problem}")


def owned_head(tag: str, oid: int, owner: Obj, name: str, bits: str = "110000000") -> Element:
    """An element with ID, UID, GID, UNAME, GNAME, NAME and PERMISSIONS."""
    return node(
        tag,
        None,
        node("ID", oid),
        node("UID", owner.oid),
        node("GID", owner.number("GID")),
        node("UNAME", owner.name),
        node("GNAME", owner.text("GNAME")),
        node("NAME", name),
        auth.permissions(bits),
    )


def visible(call: Call, kind: str, who: int, start: int, end: int) -> list[Obj]:
    """Objects of *kind* for a pool call: filter *who* and page *start*, *end* as oned's."""
    found = [obj for obj in call.sim.store.all(kind) if _matches(call, obj, who)]
    if start >= 0 and end < -1:
        return found[start : start - end]
    if start >= 0:
        return [obj for obj in found if start <= obj.oid and (end < 0 or obj.oid <= end)]
    return found


def _matches(call: Call, obj: Obj, who: int) -> bool:
    if who == OWN:
        return obj.uid == call.uid
    if who == OWN_GROUP:
        return obj.gid == call.gid
    if who == ALL:
        return auth.allowed(call, Right.USE, obj)
    if who == OWN_AND_GROUPS:
        mine = obj.uid == call.uid or obj.gid in call.groups
        return mine and auth.allowed(call, Right.USE, obj)
    return obj.uid == who and auth.allowed(call, Right.USE, obj)


def pool(tag: str, bodies: Iterable[Element]) -> str:
    """A pool document."""
    return doc.dumps(node(tag, None, *bodies))


def getter(kind: str) -> Handler:
    """one.<kind>.info"""

    def info(call: Call, oid: int, decrypt: bool = False) -> str:
        obj = call.sim.store.get(kind, oid)
        auth.require(call, Right.USE, obj)
        return obj.xml()

    return info


def lister(kind: str, tag: str) -> Handler:
    """one.<kind>pool.info with filter and page."""

    def pool_info(call: Call, who: int = ALL, start: int = -1, end: int = -1) -> str:
        return pool(tag, (obj.body for obj in visible(call, kind, who, start, end)))

    return pool_info


def lister_of_all(kind: str, tag: str) -> Handler:
    """one.<kind>pool.info for kinds whose pools take no parameters."""

    def pool_info(call: Call) -> str:
        return pool(tag, (obj.body for obj in visible(call, kind, ALL, -1, -1)))

    return pool_info


def renamer(kind: str, *, per_owner: bool = True) -> Handler:
    """one.<kind>.rename"""

    def rename(call: Call, oid: int, name: str) -> int:
        obj = call.sim.store.get(kind, oid)
        auth.require(call, Right.MANAGE, obj)
        require_unlocked(call, obj, Right.MANAGE)
        problem = check_name(name)
        if problem:
            raise OnedError(Code.ACTION, f"Cannot rename object. {problem}")
        other = call.sim.store.named(kind, name, obj.uid if per_owner else None)
        if other is not None and other.oid != oid:
            label = RESOURCES[kind][1]
            raise OnedError(
                Code.ACTION,
                f"{label} cannot be renamed to {name} because it collides with"
                f" {label} {other.oid}.",
            )
        obj.set("NAME", name)
        call.sim.store.put(obj)
        return oid

    return rename


def chmodder(kind: str) -> Handler:
    """one.<kind>.chmod: nine bits, -1 keeps one."""

    def chmod(call: Call, oid: int, *bits: int) -> int:
        obj = call.sim.store.get(kind, oid)
        if len(bits) != 9:
            raise OnedError(Code.XML_RPC_API, "chmod takes nine permission bits")
        element = obj.body.find("PERMISSIONS")
        assert element is not None
        auth.require(call, Right.MANAGE, obj)
        if any(bits[place] != KEEP for place in (2, 5, 8)):
            auth.require(call, Right.ADMIN if not _owns(call, obj) else Right.MANAGE, obj)
        require_unlocked(call, obj, Right.MANAGE)
        for bit, leaf in zip(bits, element, strict=True):
            if bit not in (-1, 0, 1):
                raise OnedError(Code.ACTION, "New permissions must be -1, 0 or 1")
            if bit != KEEP:
                leaf.text = str(bit)
        call.sim.store.put(obj)
        return oid

    return chmod


def _owns(call: Call, obj: Obj) -> bool:
    return obj.uid == call.uid


def chowner(kind: str, moved: Callable[[Call, Obj, Obj], None] | None = None) -> Handler:
    """one.<kind>.chown; *moved* gets the object before and after (for quotas)."""

    def chown(call: Call, oid: int, uid: int, gid: int) -> int:
        store = call.sim.store
        obj, before = store.get(kind, oid), store.get(kind, oid)
        auth.require(call, Right.MANAGE if uid == KEEP else Right.ADMIN, obj)
        require_unlocked(call, obj, Right.ADMIN)
        if uid != KEEP:
            user = store.get("user", uid)
            taken = store.named(kind, obj.name, uid)
            if taken is not None and taken.oid != oid:
                label = RESOURCES[kind][1]
                raise OnedError(
                    Code.ALLOCATE, f"User [{uid}] already has a {label} named {obj.name}."
                )
            obj.set("UID", uid)
            obj.set("UNAME", user.name)
        if gid != KEEP:
            obj.set("GNAME", store.get("group", gid).name)
            obj.set("GID", gid)
        if moved is not None:
            moved(call, before, obj)
        store.put(obj)
        return oid

    return chown


def updater(kind: str, fix: Fix | None = None, *, restricted: str | None = None) -> Handler:
    """one.<kind>.update: replace (0) or merge (1) the template."""

    def update(call: Call, oid: int, text: str, mode: int = REPLACE) -> int:
        obj = call.sim.store.get(kind, oid)
        auth.require(call, Right.MANAGE, obj)
        require_unlocked(call, obj, Right.MANAGE)
        given = parse(text, "Cannot update template. ")
        auth.require_unrestricted(call, restricted or kind, given)
        template = updated(obj.template(), given, mode)
        if fix is not None:
            fix(call, obj, template)
        obj.set_template(template)
        call.sim.store.put(obj)
        return oid

    return update


def parse(text: str, prefix: str = "") -> Template:
    """Template.parse with *prefix* before the message of a syntax error."""
    try:
        return Template.parse(text)
    except OnedError as exc:
        raise OnedError(exc.code, f"{prefix}{exc.text}") from exc


def updated(old: Template, given: Template, mode: int) -> Template:
    """*old* replaced by or merged with *given*; raises OnedError for another *mode*."""
    if mode not in (REPLACE, MERGE):
        raise OnedError(Code.XML_RPC_API, "Wrong update type")
    if mode == REPLACE:
        return given
    old.merge(given)
    return old


LOCK_LEVELS = {1: Right.USE, 2: Right.MANAGE, 3: Right.ADMIN, 4: Right.USE}
USE_LEVELS = (1, 4)


def locker(kind: str) -> Handler:
    """one.<kind>.lock(id, level, test): 1 USE, 2 MANAGE, 3 ADMIN, 4 ALL."""

    def lock(call: Call, oid: int, level: int, test: bool = False) -> int:
        obj = call.sim.store.get(kind, oid)
        auth.require(call, Right.MANAGE, obj)
        if level not in LOCK_LEVELS:
            raise OnedError(Code.ACTION, "Wrong lock level specified")
        old = obj.body.find("LOCK")
        if old is not None:
            if test:
                raise OnedError(Code.LOCKED, f"{RESOURCES[kind][1]} {oid} is already locked.")
            obj.body.remove(old)
        element = node(
            "LOCK",
            None,
            node("LOCKED", level),
            node("OWNER", call.uid),
            node("TIME", int(time.time())),
            node("REQ_ID", -1),
        )
        name = obj.body.find("NAME")
        assert name is not None
        name.addnext(element)
        call.sim.store.put(obj)
        return oid

    return lock


def unlocker(kind: str) -> Handler:
    """one.<kind>.unlock"""

    def unlock(call: Call, oid: int) -> int:
        obj = call.sim.store.get(kind, oid)
        auth.require(call, Right.MANAGE, obj)
        element = obj.body.find("LOCK")
        if element is not None:
            if not call.is_admin and doc.get_int(element, "OWNER") != call.uid:
                raise OnedError(Code.LOCKED, "Only owner or oneadmin can unlock the object")
            obj.body.remove(element)
            call.sim.store.put(obj)
        return oid

    return unlock


def require_unlocked(call: Call, obj: Obj, right: Right) -> None:
    """Raise OnedError(LOCKED) if a lock forbids *right* to a non-admin."""
    level = obj.number("LOCK/LOCKED")
    if not level or call.is_admin:
        return
    if level in USE_LEVELS or right >= LOCK_LEVELS[level]:
        raise OnedError(Code.LOCKED, f"{RESOURCES[obj.kind][1]} {obj.oid} is locked.", obj.oid)


def owned_methods(
    kind: str,
    prefix: str,
    *,
    fix: Fix | None = None,
    moved: Callable[[Call, Obj, Obj], None] | None = None,
    restricted: str | None = None,
) -> dict[str, Handler]:
    """The methods that every kind with owner and permissions has."""
    return {
        f"{prefix}.info": getter(kind),
        f"{prefix}.rename": renamer(kind),
        f"{prefix}.chmod": chmodder(kind),
        f"{prefix}.chown": chowner(kind, moved),
        f"{prefix}.update": updater(kind, fix, restricted=restricted),
        f"{prefix}.lock": locker(kind),
        f"{prefix}.unlock": unlocker(kind),
    }
