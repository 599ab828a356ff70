"""History records of a machine: where it ran, from when to when, and why that ended."""

import secrets
from dataclasses import dataclass
from enum import IntEnum

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import Element, node

NOBODY = -1


class Action(IntEnum):
    """HISTORY/ACTION (VMActions.h)."""

    NONE = 0
    MIGRATE = 1
    LIVE_MIGRATE = 2
    UNDEPLOY = 5
    UNDEPLOY_HARD = 6
    STOP = 9
    SUSPEND = 10
    RESUME = 11
    DELETE = 13
    DELETE_RECREATE = 14
    POWEROFF = 19
    POWEROFF_HARD = 20
    DISK_ATTACH = 21
    DISK_DETACH = 22
    NIC_ATTACH = 23
    NIC_DETACH = 24
    DISK_SNAPSHOT_CREATE = 25
    DISK_SNAPSHOT_DELETE = 26
    TERMINATE = 27
    TERMINATE_HARD = 28
    DISK_RESIZE = 29
    RESIZE = 35
    DISK_SNAPSHOT_REVERT = 41
    RECOVER = 42
    RETRY = 43
    MONITOR = 44
    POFF_MIGRATE = 48
    POFF_HARD_MIGRATE = 49


# Those after which the domain is destroyed instead of asked to stop.
HARD = frozenset({Action.UNDEPLOY_HARD, Action.POWEROFF_HARD, Action.TERMINATE_HARD,
                  Action.POFF_HARD_MIGRATE})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asked for an action."""

    uid: int = NOBODY
    gid: int = NOBODY
    request: int = NOBODY

    @classmethod
    def of(cls, uid: int, gid: int) -> "Actor":
        """A user's request; oned numbers requests at random."""
        return cls(uid=uid, gid=gid, request=secrets.randbelow(10000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Host and system datastore of a new record."""

    host_id: int
    host_name: str
    cluster_id: int
    vm_mad: str
    tm_mad: str
    datastore_id: int


def record(vm_id: int, seq: int, place: Place, now: int) -> Element:
    """A new record; every time but the start is 0 (not yet)."""
    times = ("PSTIME", "PETIME", "RSTIME", "RETIME", "ESTIME", "EETIME")
    return node(
        "HISTORY",
        None,
        node("OID", vm_id),
        node("SEQ", seq),
        node("HOSTNAME", place.host_name),
        node("HID", place.host_id),
        node("CID", place.cluster_id),
        node("STIME", now),
        node("ETIME", 0),
        doc.cdata("VM_MAD", place.vm_mad),
        doc.cdata("TM_MAD", place.tm_mad),
        node("DS_ID", place.datastore_id),
        node("PLAN_ID", -2),
        node("ACTION_ID", -1),
        *(node(name, 0) for name in times),
        node("ACTION", int(Action.NONE)),
        *(node(name, NOBODY) for name in ("UID", "GID", "REQUEST_ID")),
    )


def place_of(element: Element) -> Place:
    """Where the record *element* is."""
    return Place(
        host_id=doc.get_int(element, "HID"),
        host_name=doc.get(element, "HOSTNAME"),
        cluster_id=doc.get_int(element, "CID"),
        vm_mad=doc.get(element, "VM_MAD"),
        tm_mad=doc.get(element, "TM_MAD"),
        datastore_id=doc.get_int(element, "DS_ID"),
    )


def set_action(element: Element, action: Action, actor: Actor) -> None:
    """Note in a record why it ends (or what is being done) and who asked for it."""
    values = {"ACTION": int(action), "UID": actor.uid, "GID": actor.gid}
    for tag, number in {**values, "REQUEST_ID": actor.request}.items():
        doc.put(element, tag, number)


def action_of(element: Element) -> Action:
    """Why the record ends; NONE for numbers this simulator never writes."""
    try:
        return Action(doc.get_int(element, "ACTION"))
    except ValueError:
        return Action.NONE


def stamp(element: Element, now: int, *tags: str) -> None:
    """Set the times *tags* that are not set yet."""
    for tag in tags:
        if not doc.get_int(element, tag):
            doc.put(element, tag, now)
