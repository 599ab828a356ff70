"""one.vm.info and one.vmpool.*: documents of machines, whole and short, and their samples."""

from collections.abc import Iterable

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.vm.machine import show_sample

NOT_DONE = -1
HEAD = ("ID", "UID", "GID", "UNAME", "GNAME", "NAME", "LAST_POLL", "STATE", "LCM_STATE", "RESCHED",
        "STIME", "ETIME", "DEPLOY_ID")  # fmt: skip
DISK_KEYS = ("DISK_ID", "DATASTORE", "DATASTORE_ID", "IMAGE", "IMAGE_ID", "SIZE", "TYPE", "CLONE",
             "CLONE_TARGET", "LN_TARGET", "DISK_SNAPSHOT_TOTAL_SIZE")  # fmt: skip
NIC_KEYS = ("IP", "IP6", "MAC", "NETWORK", "NETWORK_ID", "NIC_ID", "SECURITY_GROUPS")
USER_KEYS = ("LABELS", "SCHED_REQUIREMENTS", "SCHED_DS_REQUIREMENTS", "USER_PRIORITY", "ERROR")
RECORD_KEYS = ("OID", "SEQ", "HOSTNAME", "HID", "CID", "DS_ID", "VM_MAD", "TM_MAD", "ACTION")
RECORD_CDATA = ("HOSTNAME", "VM_MAD", "TM_MAD", "ACTION")
MONITOR_KEYS = ("CPU", "MEMORY", "NETRX", "NETTX")


def info(call: Call, oid: int, decrypt: bool = False) -> str:
    """one.vm.info"""
    vm = call.sim.store.get("vm", oid)
    auth.require(call, Right.USE, vm)
    return doc.dumps(_with_sample(call, vm))


def _with_sample(call: Call, vm: Obj) -> Element:
    show_sample(call.sim, vm)
    return vm.body


def short(  # the call has these parameters
    call: Call, who: int, start: int = -1, end: int = -1, state: int = NOT_DONE, search: str = ""
) -> str:
    """one.vmpool.info: the short form; *search* is NAME=part or a part of any text."""
    found = _chosen(call, (who, start, end), state, search)
    return common.pool("VM_POOL", (_short(_with_sample(call, vm)) for vm in found))


def extended(  # the call has these parameters
    call: Call, who: int, start: int = -1, end: int = -1, state: int = NOT_DONE, search: str = ""
) -> str:
    """one.vmpool.infoextended: whole documents."""
    found = _chosen(call, (who, start, end), state, search)
    return common.pool("VM_POOL", (_with_sample(call, vm) for vm in found))


def some(call: Call, numbers: str, whole: bool = False) -> str:
    """one.vmpool.infoset: machines by a list of numbers such as "1,4"."""
    wanted = {int(word) for word in numbers.split(",") if word.strip().isdigit()}
    found = [vm for vm in common.visible(call, "vm", common.ALL, -1, -1) if vm.oid in wanted]
    bodies = (_with_sample(call, vm) for vm in found)
    return common.pool("VM_POOL", (body if whole else _short(body) for body in bodies))


def _chosen(call: Call, page: tuple[int, int, int], state: int, search: str) -> list[Obj]:
    who, start, end = page
    # oned filters by state before it cuts pages.
    found = [vm for vm in common.visible(call, "vm", who, -1, -1) if _wanted(vm, state, search)]
    if start >= 0 and end < -1:
        return found[start : start - end]
    if start >= 0:
        return [vm for vm in found if start <= vm.oid and (end < 0 or vm.oid <= end)]
    return found


def _wanted(vm: Obj, state: int, search: str) -> bool:
    number = vm.number("STATE")
    if state == NOT_DONE and number == VmState.DONE:
        return False
    if state >= 0 and number != state:
        return False
    key, equals, part = search.partition("=")
    if not equals:
        return search in vm.xml()
    return part in vm.text(key.replace("VM.", "", 1).replace(".", "/"))


def _short(body: Element) -> Element:
    template = body.find("TEMPLATE")
    assert template is not None
    plain = [node(key, doc.get(template, key)) for key in ("CPU", "MEMORY", "VCPU")
             if template.find(key) is not None]  # fmt: skip
    vectors = [_picked(disk, DISK_KEYS) for disk in template.iterfind("DISK")]
    vectors += [_picked(nic, NIC_KEYS) for nic in template.iterfind("NIC")]
    graphics = template.find("GRAPHICS")
    if graphics is not None:
        keys = [str(item.tag) for item in graphics]
        vectors.append(_picked(graphics, tuple(keys)))
    monitoring, user = body.find("MONITORING"), body.find("USER_TEMPLATE")
    assert monitoring is not None and user is not None
    return node(
        "VM",
        None,
        *(node(key, doc.get(body, key)) for key in HEAD),
        node("TEMPLATE", None, *plain, *vectors),
        _picked(monitoring, MONITOR_KEYS),
        _picked(user, USER_KEYS),
        node("HISTORY_RECORDS", None, *(_record(item) for item in _last(body))),
    )


def _last(body: Element) -> list[Element]:
    return body.findall("HISTORY_RECORDS/HISTORY")[-1:]


def _picked(element: Element, keys: tuple[str, ...]) -> Element:
    found = [cdata(key, doc.get(element, key)) for key in keys if element.find(key) is not None]
    return node(str(element.tag), None, *found)


def _record(record: Element) -> Element:
    items = [
        (cdata if key in RECORD_CDATA else node)(key, doc.get(record, key)) for key in RECORD_KEYS
    ]
    return node("HISTORY", None, *items)


def monitoring(call: Call, oid: int) -> str:
    """one.vm.monitoring: all samples that are kept, oldest first."""
    auth.require(call, Right.USE, call.sim.store.get("vm", oid))
    return _samples(record.body for _, record in call.sim.store.records("vm", oid))


def pool_monitoring(call: Call, who: int, seconds: int = -1) -> str:
    """one.vmpool.monitoring: samples of the last *seconds*; -1 all, 0 only the newest of each."""
    seen = {vm.oid for vm in common.visible(call, "vm", who, -1, -1)}
    rows = [row for row in call.sim.store.records("vm") if row[0] in seen]
    if seconds == 0:
        rows = list({oid: (oid, record) for oid, record in rows}.values())
    elif seconds > 0:
        newest = max((record.time for _, record in rows), default=0)
        rows = [row for row in rows if row[1].time >= newest - seconds]
    return _samples(record.body for _, record in rows)


def _samples(bodies: Iterable[str]) -> str:
    return common.pool("MONITORING_DATA", (doc.parse(body) for body in bodies))
