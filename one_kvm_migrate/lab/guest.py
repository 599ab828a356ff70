"""A small bootable guest disk, made in seconds from Debian packages.

MBR disk, BIOS boot: syslinux on a FAT partition starts Debian's kernel with a busybox
initramfs (see guestroot); an ext4 partition carries known files for content checks.
No root rights, no mounts and no loop devices are needed.
"""

import hashlib
import random
import re
import struct
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import EnvironmentMissing, UsageError
from one_kvm_migrate.lab.guestroot import DATA_LABEL, READY_MARK, initramfs
from one_kvm_migrate.lab.packages import Kit, gather
from one_kvm_migrate.tools.run import run
from one_kvm_migrate.units import SECTOR, KiB, MiB

__all__ = ["READY_MARK", "GuestDisk", "MarkerFile", "build_guest", "vdi_uuid"]

BOOT_START = 1 * MiB
BOOT_SIZE = 32 * MiB
DATA_START = BOOT_START + BOOT_SIZE
MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
MBR_CODE_SIZE = 440
FAT16_LBA, LINUX = 0x0E, 0x83
MIN_SIZE_MIB = 128
VDI_UUID_OFFSET = 0x188

# quiet and the rest only shorten the boot under emulation; memory plugged in is used at once.
CMDLINE = (
    "console=tty0 console=ttyS0,115200 quiet mitigations=off no_timer_check "
    "memhp_default_state=online panic=0"
)
SYSLINUX_CFG = """DEFAULT okm
PROMPT 0
LABEL okm
  KERNEL vmlinuz
  INITRD initrd.img
  APPEND {cmdline} hostname={name}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerFile:
    """A file with known content; ``path`` is where the running guest sees it."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDisk:
    """One guest disk in two containers with the same content.

    ``vdi_uuid`` is the UUID in the VDI's header. The guest's data partition is read-only.
    """

    name: str
    raw_path: Path
    vdi_path: Path
    vdi_uuid: str
    virtual_bytes: int
    markers: tuple[MarkerFile, ...]


def build_guest(
    out_dir: Path,
    *,
    name: str,
    cache_dir: Path,
    size_mib: int = 512,
    deadline: Deadline | None = None,
) -> GuestDisk:
    """Make ``<name>.raw`` and ``<name>.vdi`` in *out_dir*, replacing older ones.

    *name* becomes the guest's host name. *cache_dir* keeps what is fetched (about 30 MB).
    Raises UsageError (name, size), EnvironmentMissing (packages), ToolFailed.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise UsageError(
            f"{name!r} is not a host name", hint="Use lower-case letters, digits and hyphens."
        )
    if size_mib < MIN_SIZE_MIB:
        raise UsageError(f"a guest disk needs {MIN_SIZE_MIB} MiB, not {size_mib}")
    deadline = deadline or Deadline(300)
    kit = gather(cache_dir, deadline=deadline)
    out_dir.mkdir(parents=True, exist_ok=True)
    raw, vdi = out_dir / f"{name}.raw", out_dir / f"{name}.vdi"
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=f".{name}.") as folder:
        scratch = Path(folder)
        markers = _write_data_files(scratch / "data", name)
        disk = _assemble(scratch, kit, name, size_mib, deadline)
        packed = scratch / "disk.vdi"
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "vdi", str(disk), str(packed)]
        run(argv, deadline=deadline)
        disk.rename(raw)
        packed.rename(vdi)
    return GuestDisk(
        name=name,
        raw_path=raw,
        vdi_path=vdi,
        vdi_uuid=vdi_uuid(vdi),
        virtual_bytes=size_mib * MiB,
        markers=markers,
    )


def vdi_uuid(path: Path) -> str:
    """The image UUID in the header of the VDI *path*, lower case without braces."""
    with path.open("rb") as stream:
        stream.seek(VDI_UUID_OFFSET)
        return str(uuid.UUID(bytes_le=stream.read(16)))


def _assemble(scratch: Path, kit: Kit, name: str, size_mib: int, deadline: Deadline) -> Path:
    size_bytes = size_mib * MiB
    boot = _boot_partition(scratch, kit, name, deadline)
    data = scratch / "data.img"
    data_kib = (size_bytes - DATA_START) // KiB
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", DATA_LABEL, "-d", str(scratch / "data")]
    run([*argv, str(data), str(data_kib)], deadline=deadline)
    disk = scratch / "disk.raw"
    with disk.open("wb") as stream:
        stream.truncate(size_bytes)
        stream.write(_master_boot_record(name, size_bytes))
        for start, part in ((BOOT_START, boot), (DATA_START, data)):
            for offset, chunk in _live_chunks(part):
                stream.seek(start + offset)
                stream.write(chunk)
    run(["syslinux", "--install", "--offset", str(BOOT_START), str(disk)], deadline=deadline)
    return disk


def _boot_partition(scratch: Path, kit: Kit, name: str, deadline: Deadline) -> Path:
    config = scratch / "syslinux.cfg"
    config.write_text(SYSLINUX_CFG.format(cmdline=CMDLINE, name=name), "ascii")
    part = scratch / "boot.img"
    hidden_sectors = str(BOOT_START // SECTOR)
    argv = ["mkfs.fat", "-F", "16", "-n", "OKMBOOT", "-h", hidden_sectors, "-C", str(part)]
    run([*argv, str(BOOT_SIZE // KiB)], deadline=deadline)
    for source, target in (
        (kit.kernel, "vmlinuz"),
        (initramfs(kit, deadline=deadline), "initrd.img"),
        (config, "syslinux.cfg"),
    ):
        run(["mcopy", "-i", str(part), str(source), f"::{target}"], deadline=deadline)
    return part


def _master_boot_record(name: str, size_bytes: int) -> bytes:
    if not MBR_CODE.exists():
        raise EnvironmentMissing(f"{MBR_CODE} is missing", hint="Install syslinux-common.")
    code = MBR_CODE.read_bytes()[:MBR_CODE_SIZE].ljust(MBR_CODE_SIZE, b"\0")
    signature = hashlib.sha256(name.encode()).digest()[:4] + b"\0\0"
    table = _partition(True, FAT16_LBA, BOOT_START, BOOT_SIZE)
    table += _partition(False, LINUX, DATA_START, size_bytes - DATA_START)
    return code + signature + table.ljust(64, b"\0") + b"\x55\xaa"


def _partition(active: bool, kind: int, start_bytes: int, size_bytes: int) -> bytes:
    beyond_chs = b"\xfe\xff\xff"
    head = bytes([0x80 if active else 0]) + beyond_chs + bytes([kind]) + beyond_chs
    return head + struct.pack("<II", start_bytes // SECTOR, size_bytes // SECTOR)


def _live_chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    empty = bytes(64 * KiB)
    offset = 0
    with path.open("rb") as stream:
        while chunk := stream.read(len(empty)):
            if chunk != empty[: len(chunk)]:
                yield offset, chunk
            offset += len(chunk)


def _write_data_files(folder: Path, name: str) -> tuple[MarkerFile, ...]:
    folder.mkdir()
    (folder / "marker.txt").write_text(f"one-kvm-migrate demo data of {name}\n", "utf-8")
    noise = random.Random(name)
    (folder / "random.bin").write_bytes(noise.randbytes(12 * MiB))
    with (folder / "journal.log").open("w", encoding="ascii") as stream:
        for second in range(300_000):
            stream.write(
                f"2026-01-{second // 86400 + 1:02} {second % 86400:05} {name} app[{second % 977}]: "
                f"request {noise.getrandbits(32):08x} answered with 200\n"
            )
    return tuple(
        MarkerFile(
            path=f"/data/{path.name}",
            size_bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.iterdir())
    )
