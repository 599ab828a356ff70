"""Shows a run while it goes and what came of it: shared by run, resume and rollback."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from one_kvm_migrate.cli.output import let_listeners_go, printable, show
from one_kvm_migrate.cli.progress import bars
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.pipeline.journal import Journal
from one_kvm_migrate.pipeline.outcome import report
from one_kvm_migrate.pipeline.runner import Observer, Runner

COLUMNS = (
    "machine",
    "state",
    "source_bytes",
    "image_bytes",
    "ratio",
    "image_ids",
    "template_id",
    "vm_id",
    "vm_state",
    "vnc",
    "proof",
)
STEP_WORDS = {
    "convert": "convert disk",
    "register": "register image of disk",
    "mac": "keep the MAC address of adapter",
    "template": "write the template",
    "instantiate": "make the VM",
    "running": "wait until it runs",
    "prove": "prove that it works",
}


def watched_run(
    client: Client, journal: Journal, args: argparse.Namespace, work: Callable[[Runner], str]
) -> int:
    """Let *work* drive a Runner, then print the report. Returns its exit status."""
    from one_kvm_migrate.cli.main import PROGRAM

    with bars(quiet=args.quiet) as progress:

        def on_step(machine: str, step: str, state: str) -> None:
            title = printable(f"{machine}: {_in_words(step)}")
            if state == "begin":
                progress.begin(title)
            else:
                progress.end(title, f"{title}: {state}")

        observer = Observer(progress_for=progress.bar, on_step=on_step)
        run_id = work(Runner(client, journal, observer))
    outcome = report(journal, run_id)
    # The work is done: a reader that went away must not hide how it ended.
    try:
        print_outcome(outcome, args.format)
    except BrokenPipeError:
        let_listeners_go()
    failed = [machine for machine in outcome["machines"] if machine["state"] == "failed"]
    for machine in failed:
        print(f"{PROGRAM}: error: {printable(_advice(machine, run_id))}", file=sys.stderr)
    return failed[0]["exit_code"] if failed else 0


def _in_words(step: str) -> str:
    kind, _, index = step.partition(":")
    return f"{STEP_WORDS[kind]} {index}".strip()


def print_outcome(outcome: dict[str, Any], fmt: str) -> None:
    """The report of a run as a table, or whole for programs."""
    show(outcome, [_row(machine) for machine in outcome["machines"]], COLUMNS, fmt, root="RUN")
    if fmt == "table":
        _print_details(outcome)
    sys.stdout.flush()


def _print_details(outcome: dict[str, Any]) -> None:
    for machine in outcome["machines"]:
        proof = machine["proof"]
        if proof:
            name = printable(machine["name"])
            print(f"{name}: proven by {', '.join(proof['evidence'])}")
            print(f"{name}: screenshot {printable(proof['vnc']['screenshot'])}")
            print(f"{name}: the VNC password is in: onevm show {machine['vm_id']} (PASSWD)")
    print(f"run {outcome['run_id']}: {outcome['state']}")


def _advice(machine: dict[str, Any], run_id: str) -> str:
    text = f"{machine['name']}: {machine['error'].rstrip('.')}."
    if any(image["path"] for image in machine["images"]):
        return (
            f"{text} Go on with: one-kvm-migrate resume {run_id}, or undo with: rollback {run_id}."
        )
    return f"{text} Nothing of it was left behind."


def _row(machine: dict[str, Any]) -> dict[str, Any]:
    images = [image for image in machine["images"] if image["path"]]
    source = sum(image["source_bytes"] for image in images)
    written = sum(image["file_bytes"] for image in images)
    vnc, proof = machine["vnc"], machine["proof"]
    return {
        "machine": machine["name"],
        "state": machine["state"],
        "source_bytes": source if images else None,
        "image_bytes": written if images else None,
        "ratio": round(source / written, 2) if written else None,
        "image_ids": [image["id"] for image in images if image["id"] is not None] or None,
        "template_id": machine["template_id"],
        "vm_id": machine["vm_id"],
        "vm_state": machine["vm_state"],
        "vnc": f"{vnc['host']}:{vnc['port']}" if vnc else None,
        "proof": proof["verdict"] if proof else None,
    }
