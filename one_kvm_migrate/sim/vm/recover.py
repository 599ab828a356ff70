"""one.vm.recover: ways out of states in which a machine is stuck."""

from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.vm import reach, steps
from one_kvm_migrate.sim.vm.driver import Result
from one_kvm_migrate.sim.vm.history import Action
from one_kvm_migrate.sim.vm.lifecycle import bury, delete, leave_host, stamp
from one_kvm_migrate.sim.vm.machine import Machine

RESTING = {VmState.POWEROFF: "powered off", VmState.SUSPENDED: "suspended"}
FAILURE, SUCCESS, RETRY, DELETE, RECREATE, DELETE_DB = range(6)
# Failure states and the step that is tried again.
RETRIES = {
    Lcm.BOOT_FAILURE: Lcm.BOOT,
    Lcm.BOOT_MIGRATE_FAILURE: Lcm.BOOT_MIGRATE,
    Lcm.BOOT_STOPPED_FAILURE: Lcm.BOOT_STOPPED,
    Lcm.BOOT_UNDEPLOY_FAILURE: Lcm.BOOT_UNDEPLOY,
    Lcm.PROLOG_FAILURE: Lcm.PROLOG,
    Lcm.PROLOG_MIGRATE_FAILURE: Lcm.PROLOG_MIGRATE,
    Lcm.PROLOG_MIGRATE_POWEROFF_FAILURE: Lcm.PROLOG_MIGRATE_POWEROFF,
    Lcm.PROLOG_MIGRATE_SUSPEND_FAILURE: Lcm.PROLOG_MIGRATE_SUSPEND,
    Lcm.PROLOG_RESUME_FAILURE: Lcm.PROLOG_RESUME,
    Lcm.PROLOG_UNDEPLOY_FAILURE: Lcm.PROLOG_UNDEPLOY,
    Lcm.EPILOG_FAILURE: Lcm.EPILOG,
    Lcm.EPILOG_STOP_FAILURE: Lcm.EPILOG_STOP,
    Lcm.EPILOG_UNDEPLOY_FAILURE: Lcm.EPILOG_UNDEPLOY,
}


def recover(call: Call, oid: int, operation: int, ds_id: int = -1) -> int:
    """one.vm.recover: failure, success, retry, delete, delete-recreate, delete-db (0 to 5)."""
    machine = reach.machine(call, oid, Right.ADMIN)
    if operation in (FAILURE, SUCCESS):
        _decide(machine, ok=operation == SUCCESS)
    elif operation == RETRY:
        if not machine.active_in(*RETRIES):
            raise _not_now(machine, "retry")
        steps.enter(machine, RETRIES[machine.lcm])
    elif operation in (DELETE, RECREATE, DELETE_DB):
        _delete(call, machine, operation)
    else:
        raise reach.refuse("Wrong recovery operation code")
    return oid


def _not_now(machine: Machine, what: str) -> Exception:
    return reach.refuse(f"Recover action {what} is not available for state {machine.state_name()}")


def _decide(machine: Machine, *, ok: bool) -> None:
    """Pretend that the driver answered; what it really answers later is ignored."""
    lcm = machine.lcm
    lcm = RETRIES.get(lcm, lcm) if machine.state == VmState.ACTIVE and ok else lcm
    if machine.state != VmState.ACTIVE or not steps.has_step(lcm):
        raise _not_now(machine, "success" if ok else "failure")
    if lcm != machine.lcm:
        machine.set_active(lcm)
        machine.save()
    info = machine.obj.text("TEMPLATE/OS/UUID") if ok else "recovered by the administrator"
    steps.finish(machine.sim, machine.oid, lcm, Result(ok=ok, info=info))


def _delete(call: Call, machine: Machine, operation: int) -> None:
    if machine.state == VmState.DONE:
        raise _not_now(machine, "delete")
    if not machine.records():
        if operation != RECREATE:
            bury(machine)
        return
    if operation == DELETE:
        delete(machine, reach.actor(call))
        return
    if operation == RECREATE and machine.state in RESTING:
        why = f"Cannot delete-recreate a {RESTING[machine.state]} VM. Resume it first"
        raise reach.refuse(why)
    kind = Action.DELETE_RECREATE if operation == RECREATE else Action.DELETE
    machine.set_action(kind, reach.actor(call))
    stamp(machine, "RETIME")
    if operation == RECREATE:
        steps.enter(machine, Lcm.CLEANUP_RESUBMIT)
        return
    stamp(machine, "ETIME")
    leave_host(machine)
    bury(machine, check_images=False)
