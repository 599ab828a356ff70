"""one.vm.action: what people do to machines without further parameters."""

from collections.abc import Callable

from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.vm import reach, steps
from one_kvm_migrate.sim.vm.history import Action, Actor
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.lifecycle import bury, delete, stamp
from one_kvm_migrate.sim.vm.machine import Machine

# An action changes the machine and returns True, or returns False: not in this state.
Verb = Callable[[Machine, Actor], bool]
UNSTARTED = (VmState.PENDING, VmState.HOLD, VmState.CLONING, VmState.CLONING_FAILURE)
FAILED = tuple(lcm for lcm in Lcm if lcm.name.endswith("_FAILURE"))


def action(call: Call, name: str, oid: int) -> int:
    """one.vm.action"""
    verb = VERBS.get(name)
    if verb is None:
        raise reach.refuse(f'Action "{name}" is not supported')
    right = Right.ADMIN if name in ("resched", "unresched") else Right.MANAGE
    machine = reach.machine(call, oid, right)
    if not verb(machine, reach.actor(call)):
        raise reach.refuse(
            f'Error performing action "{name}": This action is not available for state '
            f"{machine.state_name()}"
        )
    return oid


def _alive(machine: Machine) -> bool:
    return machine.active_in(Lcm.RUNNING, Lcm.UNKNOWN)


def _terminate(kind: Action) -> Verb:
    def verb(machine: Machine, actor: Actor) -> bool:
        if machine.state in UNSTARTED and not machine.records():
            bury(machine)
        elif _alive(machine):
            machine.set_action(kind, actor)
            steps.enter(machine, Lcm.SHUTDOWN)
        elif machine.active_in(*FAILED):
            delete(machine, actor)
        elif machine.state in (*_PLACED, *UNSTARTED):
            machine.set_action(kind, actor)
            stamp(machine, "RETIME", "ESTIME")
            steps.enter(machine, Lcm.EPILOG)
        else:
            return False
        return True

    return verb


_PLACED = (VmState.POWEROFF, VmState.SUSPENDED, VmState.STOPPED, VmState.UNDEPLOYED)


def _undeploy(kind: Action) -> Verb:
    def verb(machine: Machine, actor: Actor) -> bool:
        if _alive(machine):
            machine.set_action(kind, actor)
            steps.enter(machine, Lcm.SHUTDOWN_UNDEPLOY)
        elif machine.state == VmState.POWEROFF:
            machine.set_action(kind, actor)
            stamp(machine, "ESTIME")
            steps.enter(machine, Lcm.EPILOG_UNDEPLOY)
        else:
            return False
        return True

    return verb


def _poweroff(kind: Action) -> Verb:
    def verb(machine: Machine, actor: Actor) -> bool:
        if not _alive(machine):
            return False
        machine.set_action(kind, actor)
        steps.enter(machine, Lcm.SHUTDOWN_POWEROFF)
        return True

    return verb


def _hold(machine: Machine, actor: Actor) -> bool:
    if machine.state != VmState.PENDING:
        return False
    steps.rest(machine, VmState.HOLD)
    return True


def _release(machine: Machine, actor: Actor) -> bool:
    if machine.state != VmState.HOLD:
        return False
    steps.rest(machine, VmState.PENDING)
    return True


def _stop(machine: Machine, actor: Actor) -> bool:
    if machine.active_in(Lcm.RUNNING):
        machine.set_action(Action.STOP, actor)
        steps.enter(machine, Lcm.SAVE_STOP)
    elif machine.state == VmState.SUSPENDED:
        machine.set_action(Action.STOP, actor)
        stamp(machine, "ESTIME")
        steps.enter(machine, Lcm.EPILOG_STOP)
    else:
        return False
    return True


def _suspend(machine: Machine, actor: Actor) -> bool:
    if not machine.active_in(Lcm.RUNNING):
        return False
    machine.set_action(Action.SUSPEND, actor)
    steps.enter(machine, Lcm.SAVE_SUSPEND)
    return True


def _resume(machine: Machine, actor: Actor) -> bool:
    if machine.state in (VmState.STOPPED, VmState.UNDEPLOYED):
        steps.rest(machine, VmState.PENDING)
        return True
    if machine.active_in(Lcm.UNKNOWN):
        target = Lcm.BOOT_UNKNOWN
    elif machine.state == VmState.POWEROFF:
        target = Lcm.BOOT_POWEROFF
    elif machine.state == VmState.SUSPENDED:
        target = Lcm.BOOT_SUSPENDED
    else:
        return False
    stamp(machine, "RETIME", "ETIME")
    machine.open_record(machine.place())
    stamp(machine, "RSTIME")
    machine.set_action(Action.RESUME, actor)
    steps.enter(machine, target)
    return True


def _reboot(hard: bool) -> Verb:
    def verb(machine: Machine, actor: Actor) -> bool:
        if not machine.active_in(Lcm.RUNNING):
            return False
        sim, oid = machine.sim, machine.oid
        document = Hypervisor(machine).document()

        def job() -> None:
            result = Hypervisor(Machine.load(sim, oid)).reboot(document, hard=hard)
            if not result.ok:
                with sim.store.transaction():
                    failed = Machine.load(sim, oid)
                    # oned labels both kinds REBOOT; the state is left alone.
                    failed.set_error(steps.error_text("REBOOT", result))
                    failed.save()

        label = f"vm {oid} {'reset' if hard else 'reboot'}"
        sim.store.after_commit(lambda: sim.jobs.submit(job, label=label))
        return True

    return verb


def _resched(on: int) -> Verb:
    def verb(machine: Machine, actor: Actor) -> bool:
        if not (_alive(machine) or machine.state == VmState.POWEROFF):
            return False
        machine.obj.set("RESCHED", on)
        machine.save()
        return True

    return verb


VERBS: dict[str, Verb] = {
    "terminate": _terminate(Action.TERMINATE),
    "terminate-hard": _terminate(Action.TERMINATE_HARD),
    "undeploy": _undeploy(Action.UNDEPLOY),
    "undeploy-hard": _undeploy(Action.UNDEPLOY_HARD),
    "poweroff": _poweroff(Action.POWEROFF),
    "poweroff-hard": _poweroff(Action.POWEROFF_HARD),
    "hold": _hold,
    "release": _release,
    "stop": _stop,
    "suspend": _suspend,
    "resume": _resume,
    "reboot": _reboot(False),
    "reboot-hard": _reboot(True),
    "resched": _resched(1),
    "unresched": _resched(0),
}
