"""``one-kvm-migrate inspect SOURCE…``."""

import argparse
import json
from pathlib import Path
from typing import Any

COLUMNS = (
    "name",
    "source",
    "vcpus",
    "memory_mib",
    "firmware",
    "os",
    "disks",
    "capacity_bytes",
    "nics",
    "ready",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``inspect``."""
    from one_kvm_migrate.cli.output import add_format_options

    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help=".vbox file, OVA, OVF or a bare disk",
    )
    add_format_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print all machines of all sources; 0, or the status of the first source that failed.

    A machine that cannot be moved is printed with its reasons and is no failure of inspect.
    """
    from one_kvm_migrate.cli.main import fail
    from one_kvm_migrate.cli.output import show
    from one_kvm_migrate.errors import OkmError
    from one_kvm_migrate.sources.base import inspect_all

    machines: list[dict[str, Any]] = []
    errors: list[OkmError] = []
    for _, result in inspect_all(args.sources):
        if isinstance(result, OkmError):
            errors.append(result)
        else:
            # Through JSON, so that YAML and XML see plain data instead of enums and tuples.
            machines += [json.loads(json.dumps(vm.as_dict())) for vm in result]
    if args.format != "table":
        show(machines, [_row(vm) for vm in machines], COLUMNS, args.format, root="MACHINES")
    elif machines:
        _print_tables(machines)
    statuses = [fail(error) for error in errors]
    return statuses[0] if statuses else 0


def _row(vm: dict[str, Any]) -> dict[str, Any]:
    sizes = [disk["capacity_bytes"] for disk in vm["disks"]]
    return {
        "name": vm["name"],
        "source": vm["source_kind"],
        "vcpus": vm["vcpus"],
        "memory_mib": vm["memory_mib"],
        "firmware": vm["firmware"],
        "os": vm["os_hint"],
        "disks": len(sizes),
        "capacity_bytes": sum(sizes) if None not in sizes else None,
        "nics": len(vm["nics"]),
        "ready": not vm["refusals"],
    }


def _print_tables(machines: list[dict[str, Any]]) -> None:
    from one_kvm_migrate.cli.output import print_table, printable

    print_table([_row(vm) for vm in machines], COLUMNS)
    disks = [
        {
            "machine": vm["name"],
            "disk": disk["path"],
            "format": disk["format"],
            "place": f"{disk['bus']} {disk['port']}:{disk['device']}",
            "capacity_bytes": disk["capacity_bytes"],
            "files": len(disk["chain"]),
        }
        for vm in machines
        for disk in vm["disks"]
    ]
    nics = [
        {
            "machine": vm["name"],
            **{key: nic[key] for key in ("slot", "mac", "model", "mode", "network")},
        }
        for vm in machines
        for nic in vm["nics"]
    ]
    if disks:
        print_table(disks, list(disks[0]))
    if nics:
        print_table(nics, list(nics[0]))
    for vm in machines:
        for snapshot in vm["snapshots"]:
            print(printable(f"{vm['name']}: snapshot {snapshot['name']}"))
        for text in vm["warnings"]:
            print(printable(f"{vm['name']}: warning: {text}"))
        for text in vm["refusals"]:
            print(printable(f"{vm['name']}: cannot be moved: {text}"))
