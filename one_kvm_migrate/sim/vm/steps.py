"""The life-cycle states in which a driver works: what it does, and what comes after.

Each transient LCM state has exactly one step, so a simulator that was stopped in the middle
only has to queue the steps of the states it finds.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from one_kvm_migrate.errors import Cancelled, OkmError
from one_kvm_migrate.sim.states import LcmState, VmState
from one_kvm_migrate.sim.vm.driver import Result
from one_kvm_migrate.sim.vm.machine import Machine

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

log = logging.getLogger(__name__)

Work = Callable[[Machine], Result]
After = Callable[[Machine, Result], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``work`` runs without a transaction, ``success`` and ``failure`` inside one.

    ``title`` is oned's name of the driver action, put before error texts; empty for transfers.
    """

    work: Work
    success: After
    failure: After
    title: str = ""


_STEPS: dict[LcmState, Step] = {}


def register(steps: dict[LcmState, Step]) -> None:
    """Add the steps of a module; each state has one."""
    _STEPS.update(steps)


def enter(machine: Machine, lcm: LcmState) -> None:
    """Go to *lcm*, save, and queue its step. Call it inside a transaction."""
    machine.set_active(lcm)
    machine.save()
    machine.log(f"New LCM state is {lcm.name}", part="VM")
    queue(machine.sim, machine.oid, lcm)


def rest(machine: Machine, state: VmState) -> None:
    """Go to *state*, in which nothing happens, and save; PENDING wakes the scheduler."""
    machine.set_idle(state)
    machine.save()
    machine.log(f"New state is {state.name}", part="VM")
    settings = machine.sim.config
    if state == VmState.PENDING and settings.scheduler and not settings.step:
        _wake_scheduler(machine.sim)


def _wake_scheduler(sim: "Sim") -> None:
    from one_kvm_migrate.sim.vm.scheduler import place_waiting

    job = partial(place_waiting, sim)
    sim.store.after_commit(lambda: sim.jobs.submit(job, label="schedule"))


def running(machine: Machine) -> None:
    """Go to RUNNING with nothing being done, and save."""
    machine.clear_action()
    machine.set_active(LcmState.RUNNING)
    machine.save()
    machine.log("New LCM state is RUNNING", part="VM")


def stuck(machine: Machine, lcm: LcmState) -> None:
    """Go to a failure state, where the machine waits for one.vm.recover."""
    machine.set_active(lcm)
    machine.save()
    machine.log(f"New LCM state is {lcm.name}", level="E", part="VM")


def queue(sim: "Sim", oid: int, lcm: LcmState) -> None:
    """Queue the step of *lcm* for machine *oid*, once the transaction is committed."""
    label = f"vm {oid} {lcm.name}"
    sim.store.after_commit(lambda: sim.jobs.submit(lambda: run(sim, oid, lcm), label=label))


def run(sim: "Sim", oid: int, lcm: LcmState) -> None:
    """Do the work of *lcm* and what follows; nothing if the machine has left that state."""
    step = _STEPS[lcm]
    machine = Machine.load(sim, oid)
    if not machine.active_in(lcm):
        return
    try:
        result = step.work(machine)
    except Cancelled:
        raise
    except (OkmError, OSError) as exc:
        result = Result(ok=False, info=str(exc))
    finish(sim, oid, lcm, result)


def finish(sim: "Sim", oid: int, lcm: LcmState, result: Result) -> None:
    """Draw the consequences of *result* for a machine that is in *lcm*."""
    step = _STEPS[lcm]
    with sim.store.transaction():
        machine = Machine.load(sim, oid)
        if not machine.active_in(lcm):
            return
        if result.ok:
            step.success(machine, result)
            return
        log.info("vm=%d %s failed: %s", oid, lcm.name, result.info)
        machine.set_error(error_text(step.title, result))
        step.failure(machine, result)


def error_text(title: str, result: Result) -> str:
    """What goes into USER_TEMPLATE/ERROR."""
    if title:
        return f"{title}: {result.info}"
    return f"Error executing image transfer script: {result.info}"


def has_step(lcm: LcmState) -> bool:
    """True for states in which a driver works."""
    return lcm in _STEPS


def resume(sim: "Sim") -> None:
    """Queue the steps of all machines that a stop interrupted."""
    for obj in sim.store.all("vm"):
        machine = Machine(sim, obj)
        if machine.state == VmState.ACTIVE and has_step(machine.lcm):
            queue(sim, machine.oid, machine.lcm)
