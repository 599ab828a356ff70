"""What oned's "fs" datastore driver does with files: stat, cp, mkfs, clone, rm.

Formats come from the first bytes and are always passed to qemu-img, never guessed by it. An
image that refers to another file is refused: its content would come from outside.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim.process import Processes
from one_kvm_migrate.units import MiB, ceil_div

STAT_TIMEOUT_S = 60.0
COPY_TIMEOUT_S = 4 * 3600.0
SAVE_AS = "save_as"
MAGICS = ((b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"# Disk DescriptorFile", "vmdk"))
VDI_MAGIC, VDI_MAGIC_AT = b"\x7f\x10\xda\xbe", 0x40


class DriverFailed(Exception):
    """What the driver script would have written to stderr."""


@dataclass(frozen=True, slots=True)
class Place:
    """A datastore as the driver sees it. Directories are blank separated, as in templates."""

    base_path: str
    driver: str
    safe_dirs: str
    restricted_dirs: str
    var: Path


def detect_format(path: str) -> str:
    """qemu's name of the format of *path*, from its magic; raw if it has none."""
    with open(path, "rb") as stream:
        head = stream.read(512)
    for magic, name in MAGICS:
        if head.startswith(magic):
            return name
    return "vdi" if head[VDI_MAGIC_AT : VDI_MAGIC_AT + 4] == VDI_MAGIC else "raw"


def size_mib(processes: Processes, place: Place, path: str) -> int:
    """The driver's "stat": MiB the guest would see. Raises DriverFailed."""
    _check_path(place, path)
    try:
        found = _info(processes, path, detect_format(path))
    except OSError as exc:
        raise DriverFailed(f"cannot access '{path}' ({exc.strerror})") from exc
    return ceil_div(int(str(found["virtual-size"])), MiB)


def copy(processes: Processes, place: Place, image_id: int, path: str) -> tuple[str, str]:
    """The driver's "cp": (source, format) of the copy in the datastore. Raises DriverFailed."""
    _check_path(place, path)
    return _copy(processes, place, image_id, path)


def clone(processes: Processes, place: Place, image_id: int, source: str) -> tuple[str, str]:
    """The driver's "clone": like cp, of an image that is in a datastore already."""
    return _copy(processes, place, image_id, source)


def make(processes: Processes, place: Place, image_id: int, wanted: tuple[str, str, int]) -> str:
    """The driver's "mkfs": source of an empty image. *wanted* is (format, file system, MiB)."""
    form, file_system, size = wanted
    target = _new_source(place, image_id)
    if form == SAVE_AS:
        # Only the name: the content comes from a machine's disk later.
        return target
    partial = f"{target}.partial"
    try:
        _qemu_img(processes, ["create", "-q", "-f", form, partial, f"{size}M"], STAT_TIMEOUT_S)
        if file_system:
            _make_file_system(processes, partial, form, file_system, size)
        os.rename(partial, target)
    finally:
        _forget(partial)
    return target


def remove(place: Place, source: str) -> None:
    """The driver's "rm", with the snapshots. As oned's, it wants a file directly in BASE_PATH.

    Paths are compared as strings. Raises DriverFailed, also when somebody removed the file before.
    """
    if os.path.dirname(source) != place.base_path or not os.path.isfile(source):
        raise DriverFailed(f"Bad formed or unavailable Image source: {source}")
    try:
        os.unlink(source)
        _forget(f"{source}.md5sum")
        if os.path.isdir(f"{source}.snap"):
            shutil.rmtree(f"{source}.snap")
    except OSError as exc:
        raise DriverFailed(f"Error deleting {source}: {exc.strerror}") from exc


def _check_path(place: Place, path: str) -> None:
    if re.match(r"[a-z0-9+]+://", path):
        raise DriverFailed(f"cannot access '{path}' (Only local paths are supported here)")
    real = os.path.realpath(path)
    safe = _starts_with_any(real, place.safe_dirs.split())
    always = [str(place.var), "/etc/one/"]
    if not safe and _starts_with_any(real, [*place.restricted_dirs.split(), *always]):
        raise DriverFailed(f"Not allowed to copy image file {path}")
    try:
        found = os.stat(path)
    except OSError as exc:
        raise DriverFailed(f"cannot access '{path}' ({exc.strerror})") from exc
    if not stat.S_ISREG(found.st_mode):
        raise DriverFailed(f"cannot access '{path}' (Not a regular file)")
    # oned runs as oneadmin, who cannot read root's private files; we may be root and must not.
    if not safe and not found.st_mode & stat.S_IROTH:
        raise DriverFailed(f"cannot access '{path}' (Permission denied)")


def _starts_with_any(path: str, directories: list[str]) -> bool:
    return any(path.startswith(directory) for directory in directories)


def _copy(processes: Processes, place: Place, image_id: int, path: str) -> tuple[str, str]:
    target = _new_source(place, image_id)
    partial = f"{target}.partial"
    try:
        form = detect_format(path)
        _info(processes, path, form)
        if place.driver and form != place.driver:
            convert = ["convert", "-q", "-f", form, "-O", place.driver, path, partial]
            _qemu_img(processes, convert, COPY_TIMEOUT_S)
            form = place.driver
        else:
            argv = ["cp", "--sparse=always", "--", path, partial]
            _checked(processes, argv, COPY_TIMEOUT_S, b"")
        os.rename(partial, target)
    except OSError as exc:
        raise DriverFailed(f"Error copying {path}: {exc.strerror}") from exc
    finally:
        _forget(partial)
    return target, form


def _new_source(place: Place, image_id: int) -> str:
    name = hashlib.md5(f"{time.time()}:{image_id}".encode(), usedforsecurity=False).hexdigest()
    return f"{place.base_path}/{name}"


def _make_file_system(
    processes: Processes, path: str, form: str, file_system: str, size: int
) -> None:
    if not re.fullmatch(r"ext[234]|xfs|vfat|swap", file_system):
        raise DriverFailed(f"Unsupported file system {file_system}")
    raw = f"{path}.raw"
    tool = ["mkswap"] if file_system == "swap" else [f"mkfs.{file_system}"]
    try:
        _qemu_img(processes, ["create", "-q", "-f", "raw", raw, f"{size}M"], STAT_TIMEOUT_S)
        _checked(processes, [*tool, raw], STAT_TIMEOUT_S, b"y\n")
        _qemu_img(processes, ["convert", "-q", "-f", "raw", "-O", form, raw, path], COPY_TIMEOUT_S)
    finally:
        _forget(raw)


def _info(processes: Processes, path: str, form: str) -> dict[str, object]:
    output = _qemu_img(processes, ["info", "-f", form, "--output=json", path], STAT_TIMEOUT_S)
    found: dict[str, object] = json.loads(output)
    extra = found.get("format-specific")
    data = extra.get("data", {}) if isinstance(extra, dict) else {}
    if "backing-filename" in found or "data-file" in data:
        raise DriverFailed(f"{path} refers to another file")
    return found


def _qemu_img(processes: Processes, args: list[str], timeout_s: float) -> bytes:
    return _checked(processes, ["qemu-img", *args], timeout_s, b"")


def _checked(processes: Processes, argv: list[str], timeout_s: float, stdin: bytes) -> bytes:
    try:
        done = processes.run(argv, deadline=Deadline(timeout_s), stdin=stdin)
    except OkmError as exc:
        raise DriverFailed(exc.message) from exc
    if done.rc != 0:
        raise DriverFailed(" ".join(done.stderr_tail.split()) or f"{argv[0]} failed")
    return done.stdout


def _forget(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
