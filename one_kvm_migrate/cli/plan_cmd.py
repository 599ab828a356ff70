"""``one-kvm-migrate plan SOURCE… --datastore D``: the dry run."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from one_kvm_migrate.pipeline.plan import MachinePlan, Plan

COLUMNS = (
    "machine",
    "disk",
    "format",
    "capacity_bytes",
    "source_bytes",
    "estimate_bytes",
    "estimate_s",
    "becomes",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``plan``: those of ``run``."""
    from one_kvm_migrate.cli.connect import add_connect_options
    from one_kvm_migrate.cli.output import add_format_options
    from one_kvm_migrate.cli.run_options import add_run_options

    add_run_options(parser)
    add_connect_options(parser)
    add_format_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the plan. The exit status is 0, or that of the first refusal."""
    from one_kvm_migrate.cli.connect import open_client
    from one_kvm_migrate.cli.output import show
    from one_kvm_migrate.cli.run_options import request
    from one_kvm_migrate.pipeline.planner import make_plan

    wanted = request(args)
    with open_client(args) as client:
        plan = make_plan(client, wanted)
    if args.format != "table" or plan.movable:
        show(_data(plan), _rows(plan), COLUMNS, args.format, root="PLAN")
    if args.format == "table" and plan.movable:
        _print_details(plan)
    return report_refusals(plan)


def report_refusals(plan: "Plan") -> int:
    """Print every refusal as an error line; exit status of the first, 0 if there is none."""
    import sys

    from one_kvm_migrate.cli.main import PROGRAM
    from one_kvm_migrate.cli.output import printable

    refusals = plan.refusals()
    for subject, refusal in refusals:
        message = refusal.message if subject in refusal.message else f"{subject}: {refusal.message}"
        print(f"{PROGRAM}: error: {printable(message)}", file=sys.stderr)
    return refusals[0][1].exit_code if refusals else 0


def _rows(plan: "Plan") -> list[dict[str, Any]]:
    return [
        {
            "machine": machine.name,
            "disk": disk.source.path,
            "format": str(disk.source.format),
            "capacity_bytes": disk.source.capacity_bytes,
            "source_bytes": disk.source_bytes,
            "estimate_bytes": disk.estimate_bytes,
            "estimate_s": disk.estimate_s,
            "becomes": f"image {disk.image_name} in {plan.datastore.name}",
        }
        for machine in plan.movable
        for disk in machine.disks
    ]


def _data(plan: "Plan") -> dict[str, Any]:
    from one_kvm_migrate.opennebula.template import to_text
    from one_kvm_migrate.pipeline.plan import as_data

    data: dict[str, Any] = as_data(plan)
    for machine, entry in zip(plan.machines, data["machines"], strict=True):
        entry["template"] = to_text(_template(plan, machine)) if machine.disks else None
    data["digest"] = plan.digest()
    data["totals"] = {
        "source_bytes": _total(plan, "source_bytes"),
        "needed_bytes": _total(plan, "needed_bytes"),
        "estimate_bytes": _total(plan, "estimate_bytes"),
        "estimate_s": _total(plan, "estimate_s"),
    }
    return data


def _template(plan: "Plan", machine: "MachinePlan") -> Any:
    """The template as it will be; image ids are known only once the images exist."""
    from one_kvm_migrate.opennebula.vmtemplate import attributes

    template = attributes(
        machine.vm,
        machine.hardware,
        name=machine.name,
        image_ids=tuple(0 for _ in machine.disks),
        network_id=plan.network.id if plan.network else None,
        options=plan.options.template,
    )
    images = iter(machine.disks)
    return [
        (name, {**value, "IMAGE_ID": f"<{next(images).image_name}>"})
        if name == "DISK" and not isinstance(value, str)
        else (name, value)
        for name, value in template
    ]


def _total(plan: "Plan", field: str) -> Any:
    return sum(getattr(disk, field) for machine in plan.movable for disk in machine.disks)


def _print_details(plan: "Plan") -> None:
    from one_kvm_migrate.cli.output import printable, printable_lines
    from one_kvm_migrate.opennebula.template import to_text
    from one_kvm_migrate.units import human_bytes

    for machine in plan.movable:
        for warning in machine.warnings:
            print(printable(f"{machine.name}: warning: {warning}"))
        template = to_text(_template(plan, machine))
        print(f"\ntemplate {printable(machine.name)}:\n{printable_lines(template)}")
    print(
        f"total: {human_bytes(_total(plan, 'source_bytes'))} to read, about "
        f"{human_bytes(_total(plan, 'estimate_bytes'))} to write (at most "
        f"{human_bytes(_total(plan, 'needed_bytes'))}), about {_total(plan, 'estimate_s'):.0f} s"
    )
