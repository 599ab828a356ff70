"""one.user.*, one.userpool.* and user quotas."""

import hashlib
import secrets
from typing import TYPE_CHECKING

from lxml import etree

from one_kvm_migrate.sim import auth, doc, quotas
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import ONEADMIN, Call, Handler
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

USERS_GROUP = 1
SERVERADMIN = 1
FIRST_ID = 2
DRIVERS = ("core", "public", "ssh", "x509", "ldap", "server_cipher", "server_x509", "saml")


def create(sim: "Sim", oid: int, name: str, credentials: tuple[str, str], groups: list[int]) -> Obj:
    """Write a user with *credentials* (auth driver, password) in *groups*, primary first."""
    driver, password = credentials
    body = node(
        "USER",
        None,
        node("ID", oid),
        node("GID", groups[0]),
        node("GROUPS", None, *(node("ID", gid) for gid in sorted(set(groups)))),
        node("GNAME", sim.store.get("group", groups[0]).name),
        node("NAME", name),
        cdata("PASSWORD", _digest(password)),
        cdata("AUTH_DRIVER", driver),
        node("ENABLED", 1),
        Template([("TOKEN_PASSWORD", secrets.token_hex(32))]).to_xml(),
    )
    user = Obj("user", oid, body)
    sim.store.put(user)
    quotas.create(sim, "user", oid)
    for gid in set(groups):
        _change_group(sim, gid, oid, joins=True)
    return user


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _change_group(sim: "Sim", gid: int, uid: int, *, joins: bool) -> None:
    group = sim.store.get("group", gid)
    (doc.add_id if joins else doc.remove_id)(group.body, "USERS", uid)
    sim.store.put(group)


def allocate(
    call: Call, name: str, password: str, driver: str = "", groups: list[int] | None = None
) -> int:
    """one.user.allocate: the first of *groups* is the primary one, users(1) if none."""
    auth.require_create(call, "user")
    wanted = list(groups or [USERS_GROUP])
    for gid in wanted:
        call.sim.store.get("group", gid)
    common.require_new_name(call, "user", name, None)
    if not password or any(char.isspace() for char in password):
        raise OnedError(
            Code.ALLOCATE, "Error allocating a new user. Invalid password, it cannot be empty"
        )
    if driver not in ("", *DRIVERS):
        raise OnedError(Code.INTERNAL, f"Authentication driver {driver} not enabled")
    oid = call.sim.store.new_id("user", FIRST_ID)
    create(call.sim, oid, name, (driver or "core", password), wanted)
    return oid


def delete(call: Call, oid: int) -> int:
    """one.user.delete"""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.ADMIN, user)
    if oid in (ONEADMIN, SERVERADMIN):
        raise OnedError(Code.ACTION, f"Cannot delete user. {user.name} cannot be deleted.")
    for gid in doc.ids(user.body, "GROUPS"):
        _change_group(call.sim, gid, oid, joins=False)
    call.sim.store.delete("user", oid)
    call.sim.store.delete("userquota", oid)
    return oid


def passwd(call: Call, oid: int, password: str) -> int:
    """one.user.passwd"""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.MANAGE, user)
    if not password:
        raise OnedError(Code.INTERNAL, "Invalid password, it cannot be empty")
    user.set("PASSWORD", _digest(password))
    call.sim.store.put(user)
    return oid


def chauth(call: Call, oid: int, driver: str, password: str = "") -> int:
    """one.user.chauth"""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.ADMIN, user)
    if driver not in DRIVERS:
        raise OnedError(Code.INTERNAL, f"Authentication driver {driver} not enabled")
    user.set("AUTH_DRIVER", driver)
    if password:
        user.set("PASSWORD", _digest(password))
    call.sim.store.put(user)
    return oid


def enable(call: Call, oid: int, on: bool) -> int:
    """one.user.enable"""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.ADMIN, user)
    if oid in (ONEADMIN, SERVERADMIN) and not on:
        raise OnedError(Code.ACTION, "Cannot disable oneadmin or serveradmin")
    user.set("ENABLED", int(on))
    call.sim.store.put(user)
    return oid


def chgrp(call: Call, oid: int, gid: int) -> int:
    """one.user.chgrp: another primary group."""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.ADMIN, user)
    group = call.sim.store.get("group", gid)
    old = user.number("GID")
    doc.remove_id(user.body, "GROUPS", old)
    doc.add_id(user.body, "GROUPS", gid)
    user.set("GID", gid)
    user.set("GNAME", group.name)
    call.sim.store.put(user)
    _change_group(call.sim, old, oid, joins=False)
    _change_group(call.sim, gid, oid, joins=True)
    return oid


def add_group(call: Call, oid: int, gid: int) -> int:
    """one.user.addgroup"""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.ADMIN, user)
    call.sim.store.get("group", gid)
    if gid in doc.ids(user.body, "GROUPS"):
        raise OnedError(Code.ACTION, "User is already in this group")
    doc.add_id(user.body, "GROUPS", gid)
    call.sim.store.put(user)
    _change_group(call.sim, gid, oid, joins=True)
    return oid


def del_group(call: Call, oid: int, gid: int) -> int:
    """one.user.delgroup"""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.ADMIN, user)
    if gid == user.number("GID") or gid not in doc.ids(user.body, "GROUPS"):
        why = "Cannot remove user from the primary group" if gid == user.number("GID") else ""
        raise OnedError(Code.ACTION, why or "User is not part of this group")
    doc.remove_id(user.body, "GROUPS", gid)
    call.sim.store.put(user)
    _change_group(call.sim, gid, oid, joins=False)
    return oid


def update(call: Call, oid: int, text: str, mode: int = common.REPLACE) -> int:
    """one.user.update; the token password stays whatever is written."""
    user = call.sim.store.get("user", oid)
    auth.require(call, Right.MANAGE, user)
    given = common.parse(text, "Cannot update template. ")
    auth.require_unrestricted(call, "user", given)
    token = user.template().get("TOKEN_PASSWORD")
    template = common.updated(user.template(), given, mode)
    template.set("TOKEN_PASSWORD", token)
    user.set_template(template)
    call.sim.store.put(user)
    return oid


def info(call: Call, oid: int = -1, decrypt: bool = False) -> str:
    """one.user.info; -1 is the caller."""
    user = call.sim.store.get("user", call.uid if oid == -1 else oid)
    auth.require(call, Right.USE, user)
    own = call.sim.store.get("userquota", user.oid).body
    user.body.extend(item for item in own if item.tag != "ID")
    user.body.append(default_quotas(call, "user"))
    return user.xml()


def default_quotas(call: Call, kind: str) -> Element:
    """DEFAULT_USER_QUOTAS or DEFAULT_GROUP_QUOTAS."""
    body = call.sim.store.get(f"{kind}quota", -1).body
    items = [item for item in body if item.tag != "ID"]
    return node(f"DEFAULT_{kind.upper()}_QUOTAS", None, *items)


def pool_info(call: Call) -> str:
    """one.userpool.info: each user, then its quotas."""
    bodies: list[etree._Element] = []
    for user in common.visible(call, "user", common.ALL, -1, -1):
        bodies += [user.body, call.sim.store.get("userquota", user.oid).body]
    return common.pool("USER_POOL", [*bodies, default_quotas(call, "user")])


def quota(call: Call, oid: int, text: str) -> int:
    """one.user.quota"""
    auth.require_owner_admin(call)
    call.sim.store.get("user", oid)
    if oid == ONEADMIN:
        raise OnedError(Code.ACTION, "Cannot set quotas for oneadmin user")
    return write_quota(call, "userquota", oid, text)


def write_quota(call: Call, kind: str, oid: int, text: str) -> int:
    """Set limits on the quota object (*kind*, *oid*)."""
    limits = call.sim.store.get(kind, oid)
    quotas.set_limits(limits, common.parse(text))
    call.sim.store.put(limits)
    return oid


def quota_info(call: Call) -> str:
    """one.userquota.info: the default quotas."""
    return doc.dumps(default_quotas(call, "user"))


def quota_update(call: Call, text: str) -> str:
    """one.userquota.update: change the default quotas."""
    auth.require_owner_admin(call)
    write_quota(call, "userquota", -1, text)
    return quota_info(call)


METHODS: dict[str, Handler] = {
    "one.user.allocate": allocate,
    "one.user.delete": delete,
    "one.user.passwd": passwd,
    "one.user.chauth": chauth,
    "one.user.enable": enable,
    "one.user.chgrp": chgrp,
    "one.user.addgroup": add_group,
    "one.user.delgroup": del_group,
    "one.user.update": update,
    "one.user.info": info,
    "one.user.quota": quota,
    "one.userpool.info": pool_info,
    "one.userquota.info": quota_info,
    "one.userquota.update": quota_update,
}
