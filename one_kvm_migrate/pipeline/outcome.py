"""How a run stands, read from the journal: what ``run``, ``resume`` and ``runs`` print."""

from typing import Any

from one_kvm_migrate.pipeline.journal import Journal, RunState, StepRow, StepState
from one_kvm_migrate.pipeline.plan import MachinePlan, Plan, load
from one_kvm_migrate.pipeline.steps import machine_steps


def report(journal: Journal, run_id: str) -> dict[str, Any]:
    """The run as plain JSON data: state, and per machine its objects, proof and error.

    ``exit_code`` is that of the first refusal or failure, 0 if there is none.
    """
    row = journal.run(run_id)
    plan = load(row.plan)
    steps = {machine.index: journal.steps(run_id, machine.index) for machine in plan.machines}
    return _outcome(run_id, row.state, plan, steps)


def refused(plan: Plan) -> dict[str, Any]:
    """The same for a plan of which nothing can be moved: no run came of it."""
    return _outcome(None, "refused", plan, {machine.index: [] for machine in plan.machines})


def _outcome(
    run_id: str | None, state: str, plan: Plan, steps: dict[int, list[StepRow]]
) -> dict[str, Any]:
    undone = state == RunState.ROLLED_BACK
    machines = [_machine(plan, item, steps[item.index], undone=undone) for item in plan.machines]
    failed = [
        {"source": item.path, "error": item.refusal.message, "exit_code": item.refusal.exit_code}
        for item in plan.failed_sources
    ]
    codes = [item["exit_code"] for item in [*failed, *machines] if item["exit_code"]]
    return {
        "run_id": run_id,
        "state": str(state),
        "datastore": {"id": plan.datastore.id, "name": plan.datastore.name},
        "machines": machines,
        "failed_sources": failed,
        "exit_code": codes[0] if codes else 0,
    }


def _machine(
    plan: Plan, machine: MachinePlan, steps: list[StepRow], *, undone: bool
) -> dict[str, Any]:
    rows = {row.step: row for row in steps}
    done = {name: row.result for name, row in rows.items() if row.state is StepState.DONE}
    running = done.get("running", {})
    # What failed before a rollback is history: the rollback is what was asked for.
    error, code = (None, 0) if undone and not machine.refusals else _error(machine, steps)
    return {
        "name": machine.name,
        "source": machine.vm.source_path,
        "state": "rolled-back" if undone and not machine.refusals else _state(plan, machine, rows),
        "images": [_image(done, disk.index) for disk in machine.disks],
        "template_id": done.get("template", {}).get("template_id"),
        "vm_id": done.get("instantiate", {}).get("vm_id"),
        "vm_state": running.get("vm_state"),
        "host": running.get("host"),
        "vnc": _vnc(running),
        "proof": done.get("prove"),
        "warnings": list(machine.warnings),
        "error": error,
        "exit_code": code,
    }


def _image(done: dict[str, dict[str, Any]], index: int) -> dict[str, Any]:
    converted = done.get(f"convert:{index}", {})
    registered = done.get(f"register:{index}", {})
    keys = ("path", "virtual_bytes", "file_bytes", "source_bytes", "sha256", "seconds")
    facts = {key: converted.get(key) for key in keys}
    ratio = None
    if converted:
        ratio = round(converted["source_bytes"] / converted["file_bytes"], 2)
    return {"id": registered.get("image_id"), **facts, "ratio": ratio}


def _vnc(running: dict[str, Any]) -> dict[str, Any] | None:
    if not running:
        return None
    return {"host": running["host"], **running["vnc"]}


def _state(plan: Plan, machine: MachinePlan, rows: dict[str, StepRow]) -> str:
    if machine.refusals:
        return "refused"
    names = [step.name for step in machine_steps(plan, machine)]
    states = [rows[name].state if name in rows else None for name in names]
    if all(state is StepState.DONE for state in states):
        return "done"
    if any(row.error is not None for row in rows.values()):
        return "failed"
    return "undone" if StepState.UNDONE in states else "unfinished"


def _error(machine: MachinePlan, rows: list[StepRow]) -> tuple[str | None, int]:
    if machine.refusals:
        return " ".join(r.message for r in machine.refusals), machine.refusals[0].exit_code
    for row in rows:
        if row.error is not None and row.state in (StepState.FAILED, StepState.UNDONE):
            return row.error, row.error_code or 1
    return None, 0
