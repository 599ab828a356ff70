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


def migration_lines(moved: dict[str, Any]) -> list[str]:
    """What the migration of one machine made, in words; *moved* is from ``run --json``."""
    lines = [
        f"image {image['id']}: {human_bytes(image['source_bytes'])} became "
        f"{human_bytes(image['file_bytes'])} in {image['seconds']:g} s, {image['path']}"
        for image in moved["images"]
    ]
    vnc, proof = moved["vnc"], moved["proof"]
    return [
        *lines,
        f"template {moved['template_id']}, VM {moved['vm_id']}: {moved['vm_state']}, "
        f"console {vnc['host']}:{vnc['port']}",
        f"{proof['verdict']} after {proof['seconds']:g} s: {', '.join(proof['evidence'])}",
        *(f"serial line: {line}" for line in proof["serial"].get("tail", [])),
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
