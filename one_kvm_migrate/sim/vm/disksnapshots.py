"""Snapshots of single disks."""

import os
from functools import partial
from pathlib import Path

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import disks, domains, driver, files, reach
from one_kvm_migrate.sim.vm.driver import Request, Result
from one_kvm_migrate.sim.vm.history import Action
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.machine import Machine, hide_sample, show_sample, timestamp
from one_kvm_migrate.sim.vm.nodes import host_config
from one_kvm_migrate.sim.vm.steps import Step, enter, register, rest, running
from one_kvm_migrate.sim.vm.transfer import Executor

SNAP_STATES = {
    "CREATE": {VmState.POWEROFF: Lcm.DISK_SNAPSHOT_POWEROFF,
               VmState.SUSPENDED: Lcm.DISK_SNAPSHOT_SUSPENDED},
    "REVERT": {VmState.POWEROFF: Lcm.DISK_SNAPSHOT_REVERT_POWEROFF,
               VmState.SUSPENDED: Lcm.DISK_SNAPSHOT_REVERT_SUSPENDED},
    "DELETE": {VmState.POWEROFF: Lcm.DISK_SNAPSHOT_DELETE_POWEROFF,
               VmState.SUSPENDED: Lcm.DISK_SNAPSHOT_DELETE_SUSPENDED},
}  # fmt: skip
ACTIONS = {"CREATE": Action.DISK_SNAPSHOT_CREATE, "REVERT": Action.DISK_SNAPSHOT_REVERT,
           "DELETE": Action.DISK_SNAPSHOT_DELETE}  # fmt: skip


def snapshot_create(call: Call, oid: int, disk_id: int, name: str = "") -> int:
    """one.vm.disksnapshotcreate; returns the snapshot's number."""
    machine, template, disk = _for_snapshot(call, oid, disk_id, "CREATE")
    tree = _tree(machine, disk)
    number = doc.get_int(tree, "NEXT_SNAPSHOT")
    active = [
        doc.get_int(s, "ID") for s in tree.iterfind("SNAPSHOT") if s.find("ACTIVE") is not None
    ]
    parent = active[0] if active else -1
    items = (
        cdata("DATE", timestamp()),
        cdata("ID", number),
        cdata("NAME", name or f"disk-snapshot-{number}"),
        cdata("PARENT", parent),
        cdata("SIZE", disk["SIZE"]),
    )
    tree.append(node("SNAPSHOT", None, *items))
    doc.put(tree, "NEXT_SNAPSHOT", number + 1, as_cdata=True)
    _count(disk, int(disk["SIZE"]))
    _begin(call, machine, template, (disk, number, "CREATE"))
    return number


def snapshot_revert(call: Call, oid: int, disk_id: int, number: int) -> int:
    """one.vm.disksnapshotrevert: only while the machine is off."""
    machine, template, disk = _for_snapshot(call, oid, disk_id, "REVERT")
    require_snapshot(machine, disk, number)
    _begin(call, machine, template, (disk, number, "REVERT"))
    return number


def snapshot_delete(call: Call, oid: int, disk_id: int, number: int) -> int:
    """one.vm.disksnapshotdelete: not the active one, nor one that others are based on."""
    machine, template, disk = _for_snapshot(call, oid, disk_id, "DELETE")
    snapshot = require_snapshot(machine, disk, number)
    children = [s for s in _tree(machine, disk).iterfind("SNAPSHOT")
                if doc.get_int(s, "PARENT", -1) == number]  # fmt: skip
    if snapshot.find("ACTIVE") is not None or children:
        why = "is the active one" if not children else "has children"
        raise reach.refuse(f"Cannot delete snapshot {number}: it {why}")
    _begin(call, machine, template, (disk, number, "DELETE"))
    return number


def _for_snapshot(
    call: Call, oid: int, disk_id: int, what: str
) -> tuple[Machine, Template, dict[str, str]]:
    machine = reach.machine(call, oid)
    live = machine.active_in(Lcm.RUNNING) and what == "CREATE"
    if not live and machine.state not in SNAP_STATES[what]:
        raise reach.refuse(
            f"Could not {what.lower()} disk snapshot for VM {oid}, wrong state "
            f"{machine.state_name()}."
        )
    template = machine.template()
    disk = disks.by_id(template, disk_id)
    if disk is None or not disks.is_image(disk):
        raise reach.refuse(f"VM disk {disk_id} does not exist")
    return machine, template, disk


def _tree(machine: Machine, disk: dict[str, str]) -> Element:
    """The SNAPSHOTS element of a disk, made on first use (before BACKUPS)."""
    for found in machine.body.iterfind("SNAPSHOTS"):
        if doc.get(found, "DISK_ID") == disk["DISK_ID"]:
            return found
    linear = disk.get("ALLOW_ORPHANS") == "FORMAT" and files.disk_form(disk) == "qcow2"
    tree = node(
        "SNAPSHOTS",
        None,
        cdata("ALLOW_ORPHANS", "NO" if linear else "YES"),
        cdata("CURRENT_BASE", -1),
        cdata("DISK_ID", disk["DISK_ID"]),
        cdata("NEXT_SNAPSHOT", 0),
    )
    backups = machine.body.find("BACKUPS")
    assert backups is not None
    backups.addprevious(tree)
    return tree


def require_snapshot(machine: Machine, disk: dict[str, str], number: int) -> Element:
    """Snapshot *number* of *disk*; raises OnedError when there is none."""
    found = _find_snapshot(machine, disk, number)
    if found is None:
        raise reach.refuse(f"Snapshot {number} does not exist for disk {disk['DISK_ID']}")
    return found


def _find_snapshot(machine: Machine, disk: dict[str, str], number: int) -> Element | None:
    snapshots = _tree(machine, disk).iterfind("SNAPSHOT")
    return next((s for s in snapshots if doc.get_int(s, "ID", -1) == number), None)


def _count(disk: dict[str, str], size_mib: int) -> None:
    total = int(disk.get("DISK_SNAPSHOT_TOTAL_SIZE") or 0) + size_mib
    disk["DISK_SNAPSHOT_TOTAL_SIZE"] = str(max(0, total))


def _begin(
    call: Call, machine: Machine, template: Template, what: tuple[dict[str, str], int, str]
) -> None:
    disk, number, action = what
    disk.update({"DISK_SNAPSHOT_ACTIVE": "YES", "DISK_SNAPSHOT_ID": str(number)})
    lcm = SNAP_STATES[action].get(machine.state, Lcm.DISK_SNAPSHOT)
    machine.renew_record(ACTIONS[action], reach.actor(call))
    machine.set_template(template)
    enter(machine, lcm)


def _active(template: Template) -> tuple[dict[str, str], int]:
    disk = next(d for d in template.vectors("DISK") if "DISK_SNAPSHOT_ACTIVE" in d)
    return disk, int(disk["DISK_SNAPSHOT_ID"])


def _transfer(action: str, machine: Machine) -> Result:
    disk, number = _active(machine.template())
    transfer = files.disk_snapshot(machine, action, disk, number)
    return Hypervisor(machine).transfer([transfer], f"snap_{action.lower()}")


def _create_live(machine: Machine) -> Result:
    """A new overlay that the running domain is told to go on in.

    A site's own tm/<driver>/snap_create_live takes our place if there is one.
    """
    disk, number = _active(machine.template())
    transfer = files.disk_snapshot(machine, "CREATE", disk, number)
    script = machine.sim.remotes / "tm" / transfer.tm_mad / "snap_create_live"
    if script.exists():
        request = Request(script=script, argv=transfer.args, stdin=b"", streamed=False)
        return driver.call(machine.sim.processes, request)
    uri = host_config(machine.sim, machine.place().host_name).libvirt_uri
    if not uri:
        return Result(ok=False, info="snap_create_live: the host has no libvirt to talk to")
    try:
        overlay = Executor(machine.sim.processes).new_overlay(transfer)
        domains.switch_disk(uri, machine.deploy_id, disk["TARGET"], str(overlay))
    except (OkmError, OSError) as exc:
        return Result(ok=False, info=f"snap_create_live: {exc}")
    link = Path(transfer.args[0].partition(":")[2])
    _point(link, f"{overlay.parent.name}/{overlay.name}")
    return Result(ok=True)


def _point(link: Path, target: str) -> None:
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    os.replace(new, link)


def _snapshot_done(machine: Machine, result: Result) -> None:
    template = machine.template()
    disk, number = _active(template)
    snapshot = _find_snapshot(machine, disk, number)
    assert snapshot is not None
    if machine.active_in(*_DELETING):
        _count(disk, -doc.get_int(snapshot, "SIZE"))
        _tree(machine, disk).remove(snapshot)
    else:
        for mark in list(_tree(machine, disk).iter("ACTIVE")):
            holder = mark.getparent()
            assert holder is not None
            holder.remove(mark)
        snapshot.insert(0, cdata("ACTIVE", "YES"))
    _end(machine, template)


def _snapshot_failed(machine: Machine, result: Result) -> None:
    template = machine.template()
    disk, number = _active(template)
    if machine.active_in(*_CREATING):
        snapshot = _find_snapshot(machine, disk, number)
        assert snapshot is not None
        _count(disk, -doc.get_int(snapshot, "SIZE"))
        _tree(machine, disk).remove(snapshot)
    _end(machine, template)


_CREATING = (Lcm.DISK_SNAPSHOT, *SNAP_STATES["CREATE"].values())
_DELETING = tuple(SNAP_STATES["DELETE"].values())
_OFF = {lcm: state for states in SNAP_STATES.values() for state, lcm in states.items()}


def _end(machine: Machine, template: Template) -> None:
    disk, _ = _active(template)
    del disk["DISK_SNAPSHOT_ACTIVE"], disk["DISK_SNAPSHOT_ID"]
    machine.set_template(template)
    if machine.active_in(Lcm.DISK_SNAPSHOT):
        # Of all state events only this one shows hooks the newest sample (recorded).
        show_sample(machine.sim, machine.obj)
        running(machine)
        hide_sample(machine.obj)
        machine.save()
    else:
        rest(machine, _OFF[machine.lcm])


def _steps() -> dict[Lcm, Step]:
    live = Step(
        work=_create_live,
        success=_snapshot_done,
        failure=_snapshot_failed,
        title="DISKSNAPSHOTCREATE",
    )
    found = {Lcm.DISK_SNAPSHOT: live}
    for action, states in SNAP_STATES.items():
        step = Step(
            work=partial(_transfer, action), success=_snapshot_done, failure=_snapshot_failed
        )
        found.update(dict.fromkeys(states.values(), step))
    return found


register(_steps())
