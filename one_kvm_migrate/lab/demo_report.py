"""The demo's numbers as a table for people."""

import shlex
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from one_kvm_migrate.units import human_bytes

RESULT = "result.json"
DOMAIN_WORDS = {"qemu": "qemu (emulated)", "kvm": "kvm"}


def domain_words(domain_type: str) -> str:
    """libvirt's domain type so that nobody takes an emulated guest for an accelerated one."""
    return DOMAIN_WORDS.get(domain_type, domain_type)


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
        ("domain type", result["domain_type"]),
        ("VM state", f"{result['vm_state']} until the end of the demo"),
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
        *_serial_lines(proof["serial"]),
    ]


def _serial_lines(serial: dict[str, Any]) -> list[str]:
    """The last lines that the guest wrote, or why there are none."""
    if "tail" in serial:
        return [f"serial line: {line}" for line in serial["tail"]]
    reason = f" ({serial['reason']})" if "reason" in serial else ""
    return [f"serial line: nothing was read, it is {serial['state']}{reason}"]


def closing_lines(result: dict[str, Any], folder: Path) -> list[str]:
    """How it ended, how to look again at what is left in *folder*, and how to remove that."""
    program = shlex.quote(str(Path(sys.executable).with_name("one-kvm-migrate")))
    where = shlex.quote(str(folder))
    return [
        f"The VM was {result['vm_state']}, domain type {result['domain_type']}; everything that "
        "the demo started is stopped now.",
        f"All numbers: {where}/{RESULT}",
        f"Look again:  {program} sim --dir {where}/one   (image and template are still there)",
        f"Remove it:   rm -rf {where}",
    ]


def show_report(result: dict[str, Any], folder: Path) -> None:
    """Print the table and what is left."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in report_rows(result):
        table.add_row(label, value)
    console = Console(width=100, highlight=False)
    console.print("\nThe VirtualBox machine became a libvirt guest under OpenNebula, and ran.")
    console.print(table, markup=False)
    for line in closing_lines(result, folder):
        console.print(line, markup=False, soft_wrap=True)
