"""``one-kvm-migrate runs [RUN]``: what the journal knows. Needs no OpenNebula."""

import argparse
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from one_kvm_migrate.pipeline.journal import Journal, RunRow

RUN_COLUMNS = ("run", "created", "state", "machines", "datastore", "endpoint")
STEP_COLUMNS = ("machine", "step", "state", "started", "seconds", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``runs``."""
    from pathlib import Path

    from one_kvm_migrate.cli.output import add_format_options

    parser.add_argument("run_id", metavar="RUN", nargs="?", help="show the steps of this run")
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="journal folder (else $OKM_STATE_DIR)"
    )
    add_format_options(parser)


def run(args: argparse.Namespace) -> int:
    """List all runs, or the steps of one."""
    from one_kvm_migrate.cli.connect import open_journal
    from one_kvm_migrate.cli.output import show

    with open_journal(args) as journal:
        if args.run_id is not None:
            rows, columns = _steps(journal, args.run_id), STEP_COLUMNS
        else:
            rows, columns = [_run(journal, row) for row in journal.runs()], RUN_COLUMNS
    show(rows, rows, columns, args.format, root="RUNS")
    return 0


def _run(journal: "Journal", row: "RunRow") -> dict[str, Any]:
    from one_kvm_migrate.errors import JournalError
    from one_kvm_migrate.pipeline.journal import RunState
    from one_kvm_migrate.pipeline.plan import load

    try:
        plan = load(row.plan)
    except JournalError as exc:
        return {"run": row.run_id, "created": _when(row.created), "state": exc.message}
    state = str(row.state)
    if row.state is RunState.ACTIVE and not journal.is_locked(row.run_id):
        state = "interrupted"
    return {
        "run": row.run_id,
        "created": _when(row.created),
        "state": state,
        "machines": [machine.name for machine in plan.machines],
        "datastore": plan.datastore.name,
        "endpoint": plan.endpoint,
    }


def _steps(journal: "Journal", run_id: str) -> list[dict[str, Any]]:
    from one_kvm_migrate.pipeline.plan import load

    names = {machine.index: machine.name for machine in load(journal.run(run_id).plan).machines}
    return [
        {
            "machine": names[row.machine],
            "step": row.step,
            "state": str(row.state),
            "started": _when(row.started),
            "seconds": round(row.ended - row.started, 1) if row.ended else None,
            "error": row.error,
        }
        for row in journal.steps(run_id)
    ]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
