"""One virtual machine: its document, and what changes in it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.auth import permissions
from one_kvm_migrate.sim.doc import Element, node
from one_kvm_migrate.sim.states import LcmState, VmState
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import history
from one_kvm_migrate.sim.vm.history import Action, Actor, Place

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

ERROR_TEXT_LIMIT = 100


def timestamp() -> int:
    """Seconds since the epoch, as all times in documents."""
    return int(time.time())


def new_body(oid: int, name: str, owner: Obj, gid: int) -> Element:
    """The document of a machine that is about to be created, for *owner* in group *gid*."""
    zero = ("LAST_POLL", "STATE", "LCM_STATE", "PREV_STATE", "PREV_LCM_STATE", "RESCHED")
    return node(
        "VM",
        None,
        node("ID", oid),
        node("UID", owner.oid),
        node("GID", gid),
        node("UNAME", owner.name),
        node("GNAME", owner.text("GNAME")),
        node("NAME", name),
        permissions(),
        *(node(tag, 0) for tag in zero),
        node("STIME", timestamp()),
        node("ETIME", 0),
        node("DEPLOY_ID"),
        node("MONITORING"),
        node("SCHED_ACTIONS"),
        node("TEMPLATE"),
        node("USER_TEMPLATE"),
        node("HISTORY_RECORDS"),
        node("BACKUPS", None, node("BACKUP_CONFIG"), node("BACKUP_IDS")),
    )


def show_sample(sim: "Sim", vm: Obj) -> None:
    """Put the newest sample into the document; the stored one never holds it."""
    rows = sim.store.records("vm", vm.oid)
    if rows:
        newest = rows[-1][1]
        doc.replace(vm.body, "MONITORING", doc.parse(newest.body))
        vm.set("LAST_POLL", newest.time)


def hide_sample(vm: Obj) -> None:
    """Take the sample out again."""
    doc.replace(vm.body, "MONITORING", node("MONITORING"))
    vm.set("LAST_POLL", 0)


class Machine:
    """A machine's document. Change it inside a transaction, then ``save``."""

    def __init__(self, sim: "Sim", obj: Obj) -> None:
        self.sim = sim
        self.obj = obj

    @classmethod
    def load(cls, sim: "Sim", oid: int) -> "Machine":
        """Machine number *oid*; raises OnedError(NO_EXISTS)."""
        return cls(sim, sim.store.get("vm", oid))

    @property
    def oid(self) -> int:
        """Its number."""
        return self.obj.oid

    @property
    def body(self) -> Element:
        """The ``<VM>`` element."""
        return self.obj.body

    @property
    def state(self) -> VmState:
        """STATE."""
        return VmState(self.obj.number("STATE"))

    @property
    def lcm(self) -> LcmState:
        """LCM_STATE; LCM_INIT unless ACTIVE."""
        return LcmState(self.obj.number("LCM_STATE"))

    @property
    def deploy_id(self) -> str:
        """DEPLOY_ID: the libvirt UUID once it ran."""
        return self.obj.text("DEPLOY_ID")

    def state_name(self) -> str:
        """The state as people see it: the life-cycle state while ACTIVE."""
        return self.lcm.name if self.state == VmState.ACTIVE else self.state.name

    def active_in(self, *states: LcmState) -> bool:
        """True while ACTIVE in one of *states*."""
        return self.state == VmState.ACTIVE and self.lcm in states

    def set_active(self, lcm: LcmState) -> None:
        """Go to ACTIVE and *lcm*."""
        self.obj.set("STATE", int(VmState.ACTIVE))
        self.obj.set("LCM_STATE", int(lcm))

    def set_idle(self, state: VmState) -> None:
        """Go to *state*, which is not ACTIVE."""
        self.obj.set("STATE", int(state))
        self.obj.set("LCM_STATE", int(LcmState.LCM_INIT))

    def save(self) -> None:
        """Write it; a changed state makes an event, and only then becomes the previous one."""
        self.sim.events.update(self.obj)

    # -- template -----------------------------------------------------------------------

    def template(self) -> Template:
        """TEMPLATE as a copy; write it back with set_template."""
        return self.obj.template()

    def set_template(self, template: Template) -> None:
        """Replace TEMPLATE."""
        self.obj.set_template(template)

    def set_error(self, text: str) -> None:
        """USER_TEMPLATE/ERROR with the date in front; long texts are cut as oned cuts them."""
        if len(text) > ERROR_TEXT_LIMIT:
            text = f"{text[:ERROR_TEXT_LIMIT]}... see more details in VM log"
        user = self.obj.template("USER_TEMPLATE")
        user.set("ERROR", f"{time.ctime()}: {text}")
        self.obj.set_template(user, "USER_TEMPLATE")

    # -- history ------------------------------------------------------------------------

    def records(self) -> list[Element]:
        """All history records, oldest first."""
        return self.body.findall("HISTORY_RECORDS/HISTORY")

    def last(self) -> Element:
        """The newest record; only for machines that were deployed once."""
        return self.records()[-1]

    def before_last(self) -> Element:
        """The record before the newest, or the newest when it is alone."""
        return self.records()[-2:][0]

    def place(self) -> Place:
        """Where the newest record is."""
        return history.place_of(self.last())

    def open_record(self, place: Place) -> Element:
        """Append a record at *place*."""
        parent = self.body.find("HISTORY_RECORDS")
        assert parent is not None
        element = history.record(self.oid, len(parent), place, timestamp())
        parent.append(element)
        return element

    def renew_record(self, action: Action, actor: Actor) -> None:
        """Close the newest record for *action* and go on in a copy of it.

        oned does this whenever capacity, disks or NICs change, so that each record tells what
        the machine was charged for. A machine that is off stays off in the copy.
        """
        old, now = self.last(), timestamp()
        stays = history.action_of(old)
        new = self.open_record(history.place_of(old))
        history.stamp(new, now, "RSTIME")
        if self.state == VmState.POWEROFF:
            history.stamp(new, now, "RETIME")
            doc.put(new, "ACTION", int(stays))
        history.stamp(old, now, "RETIME", "ETIME")
        history.set_action(old, action, actor)

    def set_action(self, action: Action, actor: Actor) -> None:
        """Note what is being done with the machine."""
        history.set_action(self.last(), action, actor)

    def clear_action(self) -> None:
        """Nothing is being done any more."""
        history.set_action(self.last(), Action.NONE, Actor())

    # -- paths --------------------------------------------------------------------------

    def system_dir(self, datastore_id: int | None = None) -> str:
        """Directory of the machine in its system datastore, as oned spells it."""
        number = self.place().datastore_id if datastore_id is None else datastore_id
        return f"{self.sim.oned.datastore_location}/{number}/{self.oid}"

    def work_dir(self) -> Path:
        """The front-end's directory of the machine (<var>/vms/<id>), made on first use."""
        path = self.sim.var / "vms" / str(self.oid)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, text: str, *, level: str = "I", part: str = "VMM") -> None:
        """Append a line to the machine's log <dir>/log/<id>.log, as oned writes it."""
        path = self.sim.dir / "log" / f"{self.oid}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.ctime()} [Z0][{part}][{level}]: {text}\n")
