"""Deploying, stopping, saving, moving and ending machines: the steps of those states."""

from collections.abc import Callable

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.vm import capacity, disks, files, history, nics, usage, vnc
from one_kvm_migrate.sim.vm.driver import Result
from one_kvm_migrate.sim.vm.history import HARD, Action, Actor
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.machine import Machine, timestamp
from one_kvm_migrate.sim.vm.steps import (
    After,
    Step,
    Work,
    enter,
    error_text,
    register,
    rest,
    running,
    stuck,
)
from one_kvm_migrate.sim.vm.transfer import Transfer


def stamp(machine: Machine, *tags: str) -> None:
    """Set the times *tags* of the newest record that are not set yet."""
    history.stamp(machine.last(), timestamp(), *tags)


def is_hard(machine: Machine) -> bool:
    """True if the action noted in the newest record destroys the domain."""
    return history.action_of(machine.last()) in HARD


def _transfers(choose: Callable[[Machine], list[Transfer]], phase: str) -> Work:
    return lambda machine: Hypervisor(machine).transfer(choose(machine), phase)


def _to(lcm: Lcm, *stamps: str) -> After:
    def after(machine: Machine, result: Result) -> None:
        stamp(machine, *stamps)
        enter(machine, lcm)

    return after


def _stuck(lcm: Lcm) -> After:
    return lambda machine, result: stuck(machine, lcm)


def _rest(state: VmState, *stamps: str) -> After:
    def after(machine: Machine, result: Result) -> None:
        stamp(machine, *stamps)
        rest(machine, state)

    return after


def _still_running(machine: Machine, result: Result) -> None:
    running(machine)


# -- boot -------------------------------------------------------------------------------


def _deployed(machine: Machine, result: Result) -> None:
    words = result.info.split()
    if not words:
        machine.set_error("DEPLOY: the driver gave no deployment identifier")
        stuck(machine, Lcm.BOOT_FAILURE)
        return
    machine.obj.set("DEPLOY_ID", words[0])
    running(machine)


def _restored(machine: Machine, result: Result) -> None:
    running(machine)


def _deploy(failure: After) -> Step:
    def work(machine: Machine) -> Result:
        return Hypervisor(machine).deploy()

    return Step(work=work, success=_deployed, failure=failure, title="DEPLOY")


def _restore(failure: After) -> Step:
    def work(machine: Machine) -> Result:
        return Hypervisor(machine).restore()

    return Step(work=work, success=_restored, failure=failure, title="RESTORE")


# -- stop -------------------------------------------------------------------------------


def _stop(success: After) -> Step:
    def work(machine: Machine) -> Result:
        return Hypervisor(machine).stop(hard=is_hard(machine))

    return Step(work=work, success=success, failure=_not_stopped, title="SHUTDOWN")


def _not_stopped(machine: Machine, result: Result) -> None:
    if is_hard(machine):
        machine.set_error(error_text("CANCEL", result))
    running(machine)


def _save(success: After, failure: After = _still_running) -> Step:
    def work(machine: Machine) -> Result:
        return Hypervisor(machine).save(machine.place())

    return Step(work=work, success=success, failure=failure, title="SAVE")


def leave_host(machine: Machine) -> None:
    """Give host capacity and console port back; the machine may come again elsewhere."""
    template = machine.template()
    capacity.vacate(machine.sim, machine.place().host_id, machine.oid, template)
    vnc.free_port(template)
    machine.set_template(template)


def _left(state: VmState) -> After:
    def after(machine: Machine, result: Result) -> None:
        stamp(machine, "EETIME", "ETIME")
        leave_host(machine)
        rest(machine, state)

    return after


def _done(machine: Machine, result: Result) -> None:
    stamp(machine, "EETIME", "ETIME")
    leave_host(machine)
    bury(machine)


def bury(machine: Machine, *, check_images: bool = True) -> None:
    """DONE: images, addresses and quotas are given back; the document stays.

    Persistent images of a machine that does not end in the normal way (EPILOG) or at rest go to
    ERROR, unless *check_images* is off.
    """
    template = machine.template()
    failed = check_images and machine.state == VmState.ACTIVE and machine.lcm != Lcm.EPILOG
    disks.give_back(machine.sim, machine.oid, template, failed=failed)
    nics.give_back(machine.sim, machine.oid, template)
    usage.release(machine, template)
    machine.obj.set("ETIME", timestamp())
    rest(machine, VmState.DONE)


# -- migration --------------------------------------------------------------------------


def source_record(machine: Machine) -> history.Place:
    """Where a migrating machine comes from."""
    return history.place_of(machine.before_last())


def close_source(machine: Machine) -> None:
    """End the record before the newest one and give its host's capacity back."""
    history.stamp(machine.before_last(), timestamp(), "RETIME", "ETIME")
    source = source_record(machine)
    if source.host_id != machine.place().host_id:
        capacity.vacate(machine.sim, source.host_id, machine.oid, machine.template())


def _migrated(machine: Machine, result: Result) -> None:
    close_source(machine)
    stamp(machine, "RSTIME")
    running(machine)


def _migration_failed(machine: Machine, result: Result) -> None:
    """It still runs where it was: a third record says so, and the target is given back."""
    source, target = source_record(machine), machine.place()
    now = timestamp()
    history.stamp(machine.before_last(), now, "RETIME", "ETIME")
    history.stamp(machine.last(), now, "ETIME")
    history.set_action(machine.last(), Action.NONE, Actor())
    if source.host_id != target.host_id:
        capacity.vacate(machine.sim, target.host_id, machine.oid, machine.template())
    machine.open_record(source)
    stamp(machine, "RSTIME")
    running(machine)


def _save_for_migration() -> Step:
    def work(machine: Machine) -> Result:
        place = source_record(machine)
        action = history.action_of(machine.last())
        if action == Action.MIGRATE:
            return Hypervisor(machine).save(place)
        hard = action in HARD
        words = (machine.deploy_id, place.host_name)
        return Hypervisor(machine).script("cancel" if hard else "shutdown", words, place=place)

    def success(machine: Machine, result: Result) -> None:
        close_source(machine)
        stamp(machine, "PSTIME")
        enter(machine, Lcm.PROLOG_MIGRATE)

    return Step(work=work, success=success, failure=_migration_failed, title="SAVE")


def _moved(machine: Machine, result: Result) -> None:
    stamp(machine, "PETIME", "RSTIME")
    saved = history.action_of(machine.last()) == Action.MIGRATE
    enter(machine, Lcm.BOOT_MIGRATE if saved else Lcm.BOOT)


def _moved_idle(state: VmState) -> After:
    def after(machine: Machine, result: Result) -> None:
        close_source(machine)
        stamp(machine, "PETIME", "RSTIME", "RETIME")
        rest(machine, state)

    return after


# -- clean-up by one.vm.recover ------------------------------------------------------------


def delete(machine: Machine, actor: Actor) -> None:
    """Give up a machine that was deployed, in whatever state it is."""
    machine.set_action(Action.DELETE, actor)
    stamp(machine, "RETIME")
    if machine.state == VmState.ACTIVE:
        enter(machine, Lcm.CLEANUP_DELETE)
        return
    # One at rest is gone at once, and its files follow.
    sim, oid = machine.sim, machine.oid

    def job() -> None:
        gone = Machine.load(sim, oid)
        Hypervisor(gone).transfer(files.epilog(gone), "cleanup")

    sim.store.after_commit(lambda: sim.jobs.submit(job, label=f"vm {oid} cleanup"))
    _cleaned(machine, Result(ok=True))


def _clean_up(machine: Machine) -> Result:
    """Destroy whatever runs and delete whatever is there; nothing of that can fail."""
    hypervisor = Hypervisor(machine)
    if machine.deploy_id:
        hypervisor.stop(hard=True)
    hypervisor.transfer(files.epilog(machine), "cleanup")
    return Result(ok=True)


def _resubmitted(machine: Machine, result: Result) -> None:
    stamp(machine, "RETIME", "ETIME")
    leave_host(machine)
    doc.put(machine.body, "DEPLOY_ID", "")
    rest(machine, VmState.PENDING)


def _cleaned(machine: Machine, result: Result) -> None:
    stamp(machine, "ETIME")
    leave_host(machine)
    bury(machine)


register(
    {
        Lcm.PROLOG: Step(
            work=_transfers(files.prolog, "prolog"),
            success=_to(Lcm.BOOT, "PETIME", "RSTIME"),
            failure=_stuck(Lcm.PROLOG_FAILURE),
        ),
        Lcm.PROLOG_UNDEPLOY: Step(
            work=_transfers(lambda vm: files.move(vm, None, vm.place()), "prolog_undeploy"),
            success=_to(Lcm.BOOT_UNDEPLOY, "PETIME", "RSTIME"),
            failure=_stuck(Lcm.PROLOG_UNDEPLOY_FAILURE),
        ),
        Lcm.PROLOG_RESUME: Step(
            work=_transfers(lambda vm: files.move(vm, None, vm.place()), "prolog_resume"),
            success=_to(Lcm.BOOT_STOPPED, "PETIME", "RSTIME"),
            failure=_stuck(Lcm.PROLOG_RESUME_FAILURE),
        ),
        Lcm.BOOT: _deploy(_stuck(Lcm.BOOT_FAILURE)),
        Lcm.BOOT_POWEROFF: _deploy(_rest(VmState.POWEROFF, "RETIME")),
        Lcm.BOOT_UNKNOWN: _deploy(_stuck(Lcm.UNKNOWN)),
        Lcm.BOOT_UNDEPLOY: _deploy(_stuck(Lcm.BOOT_UNDEPLOY_FAILURE)),
        Lcm.BOOT_SUSPENDED: _restore(_rest(VmState.SUSPENDED, "RETIME")),
        Lcm.BOOT_STOPPED: _restore(_stuck(Lcm.BOOT_STOPPED_FAILURE)),
        Lcm.BOOT_MIGRATE: _restore(_stuck(Lcm.BOOT_MIGRATE_FAILURE)),
        Lcm.SHUTDOWN: _stop(_to(Lcm.EPILOG, "RETIME", "ESTIME")),
        Lcm.SHUTDOWN_POWEROFF: _stop(_rest(VmState.POWEROFF, "RETIME")),
        Lcm.SHUTDOWN_UNDEPLOY: _stop(_to(Lcm.EPILOG_UNDEPLOY, "RETIME", "ESTIME")),
        Lcm.EPILOG: Step(
            work=_transfers(files.epilog, "epilog"),
            success=_done,
            failure=_stuck(Lcm.EPILOG_FAILURE),
        ),
        Lcm.EPILOG_UNDEPLOY: Step(
            work=_transfers(lambda vm: files.move(vm, vm.place(), None), "epilog_undeploy"),
            success=_left(VmState.UNDEPLOYED),
            failure=_stuck(Lcm.EPILOG_UNDEPLOY_FAILURE),
        ),
        Lcm.EPILOG_STOP: Step(
            work=_transfers(lambda vm: files.move(vm, vm.place(), None), "epilog_stop"),
            success=_left(VmState.STOPPED),
            failure=_stuck(Lcm.EPILOG_STOP_FAILURE),
        ),
        Lcm.SAVE_SUSPEND: _save(_rest(VmState.SUSPENDED, "RETIME")),
        Lcm.SAVE_STOP: _save(_to(Lcm.EPILOG_STOP, "RETIME", "ESTIME")),
        Lcm.SAVE_MIGRATE: _save_for_migration(),
        Lcm.PROLOG_MIGRATE: Step(
            work=_transfers(files.between, "prolog_migrate"),
            success=_moved,
            failure=_stuck(Lcm.PROLOG_MIGRATE_FAILURE),
        ),
        Lcm.PROLOG_MIGRATE_POWEROFF: Step(
            work=_transfers(files.between, "prolog_migrate"),
            success=_moved_idle(VmState.POWEROFF),
            failure=_stuck(Lcm.PROLOG_MIGRATE_POWEROFF_FAILURE),
        ),
        Lcm.PROLOG_MIGRATE_SUSPEND: Step(
            work=_transfers(files.between, "prolog_migrate"),
            success=_moved_idle(VmState.SUSPENDED),
            failure=_stuck(Lcm.PROLOG_MIGRATE_SUSPEND_FAILURE),
        ),
        Lcm.MIGRATE: Step(
            work=lambda vm: Hypervisor(vm).migrate(),
            success=_migrated,
            failure=_migration_failed,
            title="MIGRATE",
        ),
        Lcm.CLEANUP_RESUBMIT: Step(
            work=_clean_up, success=_resubmitted, failure=_resubmitted, title="CLEANUP"
        ),
        Lcm.CLEANUP_DELETE: Step(
            work=_clean_up, success=_cleaned, failure=_cleaned, title="CLEANUP"
        ),
    }
)
