"""Limits and usage of users and groups; oneadmin and its group have none.

Kept as objects of kind userquota and groupquota, in the form in which pools list them.
"""

from typing import TYPE_CHECKING

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

Usage = dict[str, float]

METRICS = {
    "DATASTORE": ("IMAGES", "SIZE"),
    "NETWORK": ("LEASES",),
    "VM": (
        "CPU",
        "MEMORY",
        "RUNNING_CPU",
        "RUNNING_MEMORY",
        "RUNNING_VMS",
        "SYSTEM_DISK_SIZE",
        "VMS",
    ),
    "IMAGE": ("RVMS",),
}
DEFAULT, UNLIMITED = -1, -2


def empty(tag: str = "QUOTAS", oid: int | None = None) -> Element:
    """A quota element without limits."""
    head = [] if oid is None else [node("ID", oid)]
    return node(tag, None, *head, *(node(f"{name}_QUOTA") for name in METRICS))


def create(sim: "Sim", kind: str, oid: int) -> None:
    """Give the new user or group (*kind*) its empty quotas."""
    sim.store.put(Obj(f"{kind}quota", oid, empty(oid=oid)))


def charge(sim: "Sim", owner: tuple[int, int], what: str, usage: Usage, oid: str = "") -> None:
    """Add *usage* of quota *what* (DATASTORE, NETWORK, VM, IMAGE) to user and group *owner*.

    Raises OnedError(AUTHORIZATION) with oned's text when a limit would be passed; the caller's
    transaction then undoes what was added already.
    """
    uid, gid = owner
    for kind, number in (("user", uid), ("group", gid)):
        if number <= 0:
            continue
        quota = sim.store.get(f"{kind}quota", number)
        entry = _entry(quota, what, oid)
        for metric, amount in usage.items():
            used = float(doc.get(entry, f"{metric}_USED", "0"))
            limit = _limit(sim, kind, what, entry, metric)
            if limit != UNLIMITED and used + amount > limit:
                where = f" with ID: {oid}" if oid else ""
                raise OnedError(
                    Code.AUTHORIZATION,
                    f"User [{uid}] : {kind} [{number}] limit of {limit:g} reached for {metric}"
                    f" quota in {what}{where}.",
                )
            doc.put(entry, f"{metric}_USED", f"{used + amount:g}", as_cdata=True)
        sim.store.put(quota)


def release(sim: "Sim", owner: tuple[int, int], what: str, usage: Usage, oid: str = "") -> None:
    """Take *usage* back; an entry without usage and limits disappears."""
    for kind, number in zip(("user", "group"), owner, strict=True):
        quota = sim.store.find(f"{kind}quota", number)
        if number <= 0 or quota is None:
            continue
        entry = _entry(quota, what, oid)
        for metric, amount in usage.items():
            used = float(doc.get(entry, f"{metric}_USED", "0")) - amount
            doc.put(entry, f"{metric}_USED", f"{used:g}", as_cdata=True)
        _tidy(entry, what)
        sim.store.put(quota)


def set_limits(quota: Obj, given: Template) -> None:
    """Write the limits of *given* (DATASTORE=[ID=1,IMAGES=5], VM=[VMS=2], …) into *quota*."""
    for what, metrics in METRICS.items():
        for vector in given.vectors(what):
            oid = vector.get("ID", "")
            if what != "VM" and not oid.isdigit():
                raise _bad_quota(what, vector)
            entry = _entry(quota, what, oid if what != "VM" else "")
            for metric in metrics:
                limit = _number(vector.get(metric, str(DEFAULT)))
                if limit is None or (limit < 0 and limit not in (DEFAULT, UNLIMITED)):
                    raise _bad_quota(what, vector)
                doc.put(entry, metric, f"{limit:g}", as_cdata=True)
            _tidy(entry, what)


def _bad_quota(what: str, vector: dict[str, str]) -> OnedError:
    shown = ",".join(f'{key}="{vector[key]}"' for key in sorted(vector))
    return OnedError(Code.INTERNAL, f"Negative limits or bad format in quota {what} = [ {shown} ]")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _entry(quota: Obj, what: str, oid: str) -> Element:
    parent = quota.body.find(f"{what}_QUOTA")
    assert parent is not None
    for entry in parent:
        if doc.get(entry, "ID") == oid:
            return entry
    values = {"ID": oid} if oid else {}
    for metric in METRICS[what]:
        values |= {metric: str(DEFAULT), f"{metric}_USED": "0"}
    entry = node(what, None, *(cdata(key, values[key]) for key in sorted(values)))
    parent.append(entry)
    return entry


def _limit(sim: "Sim", kind: str, what: str, entry: Element, metric: str) -> float:
    limit = float(doc.get(entry, metric, str(DEFAULT)))
    if limit != DEFAULT:
        return limit
    default = sim.store.get(f"{kind}quota", -1)
    oid = doc.get(entry, "ID")
    for known in default.body.findall(f"{what}_QUOTA/{what}"):
        if doc.get(known, "ID") == oid:
            value = float(doc.get(known, metric, str(UNLIMITED)))
            return UNLIMITED if value == DEFAULT else value
    return UNLIMITED


def _tidy(entry: Element, what: str) -> None:
    unused = all(float(doc.get(entry, f"{metric}_USED", "0")) == 0 for metric in METRICS[what])
    unlimited = all(float(doc.get(entry, metric, "-1")) == DEFAULT for metric in METRICS[what])
    parent = entry.getparent()
    if unused and unlimited and parent is not None:
        parent.remove(entry)
