"""``one-kvm-migrate runs [RUN]``: what the journal knows. Needs no OpenNebula."""

import argparse
import time
from typing import Any


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
    from one_kvm_migrate.pipeline.journal import Journal

    def steps(journal: Journal) -> list[dict[str, Any]]:
        journal.run(args.run_id)
        return [
            {
                "machine": row.machine,
                "step": row.step,
                "state": str(row.state),
                "started": _when(row.started),
                "seconds": round(row.ended - row.started, 1) if row.ended else None,
                "error": row.error,
            }
            for row in journal.steps(args.run_id)
        ]

    with open_journal(args) as journal:
        if args.run_id is not None:
            rows = steps(journal)
            columns = ["machine", "step", "state", "started", "seconds", "error"]
        else:
            rows = [
                {"run": row.run_id, "created": _when(row.created), "state": str(row.state)}
                for row in journal.runs()
            ]
            columns = ["run", "created", "state"]
    show(rows, rows, columns, args.format, root="RUNS")
    return 0


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
