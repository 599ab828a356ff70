"""The demo's numbers as a table for people."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from one_kvm_migrate.units import human_bytes


def report_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value per line of the table, all taken from *result*."""
    ids, resize = result["ids"], result["resize"]
    before, after = resize["before"], resize["after"]
    stages = ", ".join(f"{name} {seconds:g}" for name, seconds in result["seconds"].items())
    return [
        ("source VDI", human_bytes(result["source_bytes"])),
        ("guest sees", human_bytes(result["virtual_bytes"])),
        ("image (qcow2)", human_bytes(result["image_bytes"])),
        ("ratio", f"{result['ratio']:g} : 1"),
        ("image path", result["image_path"]),
        ("ids", ", ".join(f"{name} {number}" for name, number in ids.items())),
        ("VM state", result["vm_state"]),
        ("VNC", f"{result['vnc']['host']}:{result['vnc']['port']}"),
        ("proof", f"{result['proof']['verdict']}: {', '.join(result['proof']['evidence'])}"),
        ("screenshot", result["screenshot"]),
        ("files intact", f"{result['inside']['files_verified']}, checked inside the guest"),
        ("MAC kept", result["inside"]["mac"]),
        ("processors", f"{before['nproc']} -> {after['nproc']} (nproc in the guest)"),
        (
            "memory",
            f"{before['memory_total_mib']} -> {after['memory_total_mib']} MiB "
            "(MemTotal in the guest)",
        ),
        ("seconds", f"{result['total_seconds']:g} ({stages})"),
    ]


def show_report(result: dict[str, Any], path: Path) -> None:
    """Print the table and where the numbers are."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in report_rows(result):
        table.add_row(label, value)
    console = Console(width=100, highlight=False)
    console.print("\nThe VirtualBox machine runs on KVM under OpenNebula.")
    console.print(table, markup=False)
    console.print(f"All numbers: {path}", soft_wrap=True)
