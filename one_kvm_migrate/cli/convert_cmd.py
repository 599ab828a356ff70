"""``one-kvm-migrate convert DISK OUT.qcow2``."""

import argparse
from dataclasses import asdict
from pathlib import Path

DEADLINE_S = 7 * 24 * 3600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``convert``."""
    from one_kvm_migrate.cli.output import add_format_options

    parser.add_argument("disk", type=Path, metavar="DISK", help="VDI, VMDK, VHD, qcow2 or raw file")
    parser.add_argument("out", type=Path, metavar="OUT.qcow2", help="file to write")
    parser.add_argument("--force", action="store_true", help="replace OUT.qcow2 if it exists")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    add_format_options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert one disk and print what was written."""
    from one_kvm_migrate.cli.output import show
    from one_kvm_migrate.cli.progress import bars
    from one_kvm_migrate.deadline import Deadline
    from one_kvm_migrate.disks.convert import convert
    from one_kvm_migrate.sources.disk import open_disk

    disk = open_disk(args.disk)
    with bars(quiet=args.quiet) as progress:
        image = convert(
            disk,
            args.out,
            deadline=Deadline(DEADLINE_S),
            on_progress=progress.bar(args.disk.name),
            overwrite=args.force,
        )
    data = asdict(image)
    data["ratio"] = round(image.source_bytes / image.file_bytes, 2)
    columns = ("path", "source_bytes", "file_bytes", "ratio", "virtual_bytes", "seconds", "sha256")
    show(data, [data], columns, args.format, root="IMAGE")
    return 0
