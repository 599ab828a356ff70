"""Carries plans out, step by step over the journal; resumes and rolls back."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from one_kvm_migrate.disks.convert import Progress, ignore_progress
from one_kvm_migrate.errors import (
    Cancelled,
    ContentMismatch,
    JournalError,
    OkmError,
    PlanChanged,
    SourceError,
)
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.datastores import datastore_folder
from one_kvm_migrate.pipeline.journal import Journal, RunState, StepState
from one_kvm_migrate.pipeline.plan import MachinePlan, Plan, dump, load
from one_kvm_migrate.pipeline.steps import machine_steps
from one_kvm_migrate.pipeline.steps.base import Step, StepContext

log = logging.getLogger(__name__)

ProgressFor = Callable[[str], Progress]
OnStep = Callable[[str, str, str], None]


def no_progress(_title: str) -> Progress:
    """For callers that show no progress."""
    return ignore_progress


def no_steps(_machine: str, _step: str, _state: str) -> None:
    """For callers that do not follow the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """How a run is watched: a progress callback per disk, and (machine, step, state) events."""

    progress_for: ProgressFor = no_progress
    on_step: OnStep = no_steps


class Runner:
    """Works on runs of one journal with one OpenNebula session."""

    def __init__(self, client: Client, journal: Journal, observer: Observer | None = None) -> None:
        self._client = client
        self._journal = journal
        self._observer = observer or Observer()

    def start(self, plan: Plan) -> str:
        """Journal *plan* as a new run, carry it out, and return the run's id.

        A machine that fails never stops the others; ``outcome.report`` tells how each ended.
        """
        run_id = self._journal.new_run(plan.digest(), dump(plan))
        with self._journal.lock(run_id):
            self._work(run_id, plan)
        return run_id

    def resume(self, run_id: str, *, libvirt_uri: str | None = None) -> None:
        """Go on where the run stopped; failed and undone machines are tried again.

        *libvirt_uri* replaces the planned one: a wrong one is what proofs fail by. A finished
        run is left as it is. Raises JournalError for one that was rolled back.
        """
        with self._journal.lock(run_id):
            if self._journal.run(run_id).state is RunState.ROLLED_BACK:
                raise JournalError(f"run {run_id} was rolled back", hint="Start a new run.")
            plan = self._plan_for_this_cloud(run_id)
            if libvirt_uri is not None:
                plan = replace(plan, options=replace(plan.options, libvirt_uri=libvirt_uri))
            self._work(run_id, plan)

    def rollback(self, run_id: str) -> None:
        """Undo all that the run made, newest first. A second rollback does nothing.

        Every machine is tried even if one cannot be undone; the first error is raised then,
        and the run is FAILED, so that a rollback can be tried again.
        """
        errors: list[OkmError] = []
        with self._journal.lock(run_id):
            plan = self._plan_for_this_cloud(run_id)
            self._journal.set_state(run_id, RunState.FAILED)
            for machine in reversed(plan.movable):
                try:
                    self._undo(self._context(run_id, plan, machine))
                except OkmError as exc:
                    errors.append(exc)
            if errors:
                raise errors[0]
            self._journal.set_state(run_id, RunState.ROLLED_BACK)

    def _plan_for_this_cloud(self, run_id: str) -> Plan:
        """The run's plan, if it was made for the cloud this session talks to.

        Ids mean other objects elsewhere. Endpoints may repeat (a tunnel, a test cloud), so
        the datastore's folder must be the same too. Raises PlanChanged.
        """
        plan = load(self._journal.run(run_id).plan)
        hint = f"Set ONE_XMLRPC={plan.endpoint} and log in as {plan.user}."
        if (self._client.endpoint, self._client.user) != (plan.endpoint, plan.user):
            raise PlanChanged(
                f"run {run_id} belongs to {plan.user} at {plan.endpoint}, "
                f"not to {self._client.user} at {self._client.endpoint}",
                hint=hint,
            )
        if datastore_folder(self._client, plan.datastore.id) != plan.datastore.base_path:
            raise PlanChanged(
                f"datastore {plan.datastore.id} at {plan.endpoint} is not the one of run {run_id}",
                hint=hint,
            )
        return plan

    def _work(self, run_id: str, plan: Plan) -> None:
        self._journal.set_state(run_id, RunState.ACTIVE)
        good = True
        try:
            for machine in plan.movable:
                good &= self._machine(self._context(run_id, plan, machine))
        except Cancelled as exc:
            # The step stays an INTENT in the journal, as after a kill.
            raise Cancelled(
                exc.message,
                hint=f"Go on with: one-kvm-migrate resume {run_id}, or undo: rollback {run_id}.",
            ) from exc
        refused = bool(plan.refusals())
        done = RunState.PARTLY if refused else RunState.DONE
        self._journal.set_state(run_id, done if good else RunState.FAILED)

    def _machine(self, ctx: StepContext) -> bool:
        known = {row.step: row for row in self._journal.steps(ctx.run_id, ctx.machine.index)}
        for seq, step in enumerate(machine_steps(ctx.plan, ctx.machine)):
            row = known.get(step.name)
            if row is not None and row.state is StepState.DONE:
                ctx.results[step.name] = row.result
                continue
            # FAILED counts too: an error may have come after the effect (a lost answer).
            unsure = row is not None and row.state in (StepState.INTENT, StepState.FAILED)
            try:
                self._step(ctx, step, seq, unsure=unsure)
            except OkmError as exc:
                self._failed(ctx, step, exc)
                return False
        return True

    def _step(self, ctx: StepContext, step: Step, seq: int, *, unsure: bool) -> None:
        run_id, machine = ctx.run_id, ctx.machine
        self._observer.on_step(machine.name, step.name, "begin")
        log.info("run=%s machine=%s step=%s begin", run_id, machine.name, step.name)
        self._journal.intend(run_id, machine.index, step.name, seq)
        result = step.recover(ctx) if unsure else None
        if result is None:
            result = step.act(ctx)
        self._journal.done(run_id, machine.index, step.name, result)
        ctx.results[step.name] = result
        log.info("run=%s machine=%s step=%s done", run_id, machine.name, step.name)
        self._observer.on_step(machine.name, step.name, "done")

    def _failed(self, ctx: StepContext, step: Step, exc: OkmError) -> None:
        """Journal the failure; undo the machine only if its source is to blame.

        Anything else can be mended outside and resumed: hours of conversion are not thrown
        away because a host was full.
        """
        self._journal.failed(
            ctx.run_id, ctx.machine.index, step.name, exc.sentence(), exc.exit_code
        )
        self._observer.on_step(ctx.machine.name, step.name, "failed")
        if not isinstance(exc, SourceError | ContentMismatch):
            return
        try:
            self._undo(ctx)
        except OkmError as undo_error:
            log.warning(
                "run=%s machine=%s could not be undone: %s",
                ctx.run_id,
                ctx.machine.name,
                undo_error.sentence(),
            )

    def _undo(self, ctx: StepContext) -> None:
        known = {row.step: row for row in self._journal.steps(ctx.run_id, ctx.machine.index)}
        for step in reversed(machine_steps(ctx.plan, ctx.machine)):
            row = known.get(step.name)
            if row is None or row.state is StepState.UNDONE:
                continue
            step.undo(ctx)
            self._journal.undone(ctx.run_id, ctx.machine.index, step.name)
            self._observer.on_step(ctx.machine.name, step.name, "undone")

    def _context(self, run_id: str, plan: Plan, machine: MachinePlan) -> StepContext:
        return StepContext(
            client=self._client,
            run_id=run_id,
            plan=plan,
            machine=machine,
            work_dir=self._work_dir(run_id, machine),
            on_progress=self._observer.progress_for(machine.name),
        )

    def _work_dir(self, run_id: str, machine: MachinePlan) -> Path:
        return self._journal.state_dir / "runs" / run_id / str(machine.index)
