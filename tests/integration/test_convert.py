"""Conversion with the real qemu-img: right bytes, nothing left behind, source untouched."""

import hashlib
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from one_kvm_migrate import errors
from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.disks.convert import adopt, convert, needed_bytes
from one_kvm_migrate.disks.estimate import estimate
from one_kvm_migrate.disks.origin import fingerprint, source_bytes
from one_kvm_migrate.model import ArchiveMember, DiskBus, DiskFormat, SourceDisk
from one_kvm_migrate.units import KiB, MiB

SIZE = 24 * MiB

CREATE = {
    "vdi": (DiskFormat.VDI, []),
    "vdi-static": (DiskFormat.VDI, ["-o", "static=on"]),
    "vmdk": (DiskFormat.VMDK, []),
    "vmdk-stream": (DiskFormat.VMDK, ["-o", "subformat=streamOptimized"]),
    "vmdk-flat": (DiskFormat.VMDK, ["-o", "subformat=monolithicFlat"]),
    "vmdk-split": (DiskFormat.VMDK, ["-o", "subformat=twoGbMaxExtentSparse"]),
    "vhd": (DiskFormat.VHD, ["-o", "force_size=on"]),
    "vhd-fixed": (DiskFormat.VHD, ["-o", "subformat=fixed,force_size=on"]),
    "qcow2": (DiskFormat.QCOW2, []),
    "raw": (DiskFormat.RAW, []),
}
QEMU = {DiskFormat.VHD: "vpc"}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw disk: text, random bytes, zeros and holes, also at the very end."""
    path = tmp_path_factory.mktemp("content") / "content.raw"
    maker = random.Random(7)
    with path.open("wb") as stream:
        stream.truncate(SIZE)
        stream.seek(64 * KiB + 512)
        stream.write(b"text " * 100_000)
        stream.seek(7 * MiB)
        stream.write(maker.randbytes(2 * MiB + 3))
        stream.seek(SIZE - 512)
        stream.write(maker.randbytes(512))
    return path


def describe(path: Path, kind: DiskFormat, capacity: int | None = SIZE) -> SourceDisk:
    return SourceDisk(
        path=str(path),
        bus=DiskBus.SATA,
        port=0,
        device=0,
        capacity_bytes=capacity,
        format=kind,
        chain=(str(path),),
    )


def make(content: Path, folder: Path, name: str) -> SourceDisk:
    kind, options = CREATE[name]
    path = folder / f"disk.{kind}"
    form = QEMU.get(kind, str(kind))
    argv = ["qemu-img", "convert", "-f", "raw", "-O", form, *options, str(content), str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return describe(path, kind)


def digest_as_raw(path: Path, folder: Path) -> str:
    raw = folder / "back.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    return hashlib.sha256(raw.read_bytes()).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", CREATE)
def test_every_format_keeps_every_byte(content: Path, tmp_path: Path, name: str) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    disk = make(content, folder, name)
    before = tree(folder)
    seen: list[tuple[str, float]] = []
    target = out / "disk.qcow2"
    image = convert(
        disk, target, deadline=Deadline(60), on_progress=lambda *step: seen.append(step)
    )
    assert digest_as_raw(target, tmp_path) == hashlib.sha256(content.read_bytes()).hexdigest()
    assert image.virtual_bytes == SIZE
    assert image.file_bytes == target.stat().st_size < 4 * MiB
    assert image.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert {stage for stage, _ in seen} == {"convert", "compare", "hash"}
    assert seen[-1] == ("hash", 1.0)
    assert tree(folder) == before
    assert [p.name for p in out.iterdir()] == ["disk.qcow2"]
    assert target.stat().st_mode & 0o777 == 0o600
    again = adopt(disk, target, deadline=Deadline(60))
    assert (again.sha256, again.virtual_bytes) == (image.sha256, SIZE)


def test_a_disk_inside_an_ova_is_read_in_place(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "vmdk-stream")
    ova = tmp_path / "machine.ova"
    with tarfile.open(ova, "w") as tar:
        tar.addfile(tarfile.TarInfo("machine.ovf"))
        tar.add(disk.path, "disk.vmdk")
    with tarfile.open(ova) as tar:
        member = tar.getmember("disk.vmdk")
    inside = SourceDisk(
        path=f"{ova}/disk.vmdk",
        bus=DiskBus.SATA,
        port=0,
        device=0,
        capacity_bytes=SIZE,
        format=DiskFormat.VMDK,
        chain=(f"{ova}/disk.vmdk",),
        archive=ArchiveMember(
            path=str(ova),
            member="disk.vmdk",
            offset_bytes=member.offset_data,
            size_bytes=member.size,
        ),
    )
    target = tmp_path / "out.qcow2"
    image = convert(inside, target, deadline=Deadline(60))
    assert digest_as_raw(target, tmp_path) == hashlib.sha256(content.read_bytes()).hexdigest()
    assert image.source_bytes == member.size


def test_the_target_is_never_overwritten_unasked(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "vdi")
    target = tmp_path / "out.qcow2"
    target.write_text("precious")
    with pytest.raises(errors.UsageError, match="exists already"):
        convert(disk, target, deadline=Deadline(60))
    assert target.read_text() == "precious"
    for other in (Path(disk.path), tmp_path / "link"):
        if not other.exists():
            other.symlink_to(target)
        with pytest.raises(errors.UsageError):
            convert(disk, other, deadline=Deadline(60), overwrite=True)
    with pytest.raises(errors.UsageError, match="does not exist"):
        convert(disk, tmp_path / "no/out.qcow2", deadline=Deadline(60))
    convert(disk, target, deadline=Deadline(60), overwrite=True)
    assert target.read_bytes()[:4] == b"QFI\xfb"


def test_the_source_is_never_taken_for_the_target(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "vmdk-flat")
    extent = tmp_path / "disk-flat.vmdk"
    before = tree(tmp_path)
    assert extent.name in before
    with pytest.raises(errors.UsageError, match="belongs to the source"):
        convert(disk, extent, deadline=Deadline(60), overwrite=True)
    partial = Path(f"{tmp_path}/y.qcow2.partial")
    os.link(extent, partial)
    with pytest.raises(errors.UsageError, match="belongs to the source"):
        convert(disk, tmp_path / "y.qcow2", deadline=Deadline(60))
    partial.unlink()
    assert tree(tmp_path) == before


def test_names_that_qemu_would_take_for_something_else(
    content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make(content, tmp_path, "raw")
    monkeypatch.chdir(tmp_path)
    for name in ("nbd:localhost:1.qcow2", "-x.qcow2", "a,b=c.qcow2", "json:{}.qcow2"):
        convert(disk, Path(name), deadline=Deadline(60))
        assert (tmp_path / name).read_bytes()[:4] == b"QFI\xfb"
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.raw"))
    Path(disk.path).rename(odd)
    with pytest.raises(errors.SourceUnsupported, match="not UTF-8"):
        convert(describe(odd, DiskFormat.RAW), tmp_path / "z.qcow2", deadline=Deadline(60))
    odd.rename(disk.path)
    with pytest.raises(errors.UsageError, match="not UTF-8"):
        convert(disk, odd, deadline=Deadline(60))
    with pytest.raises(errors.UsageError, match="too long"):
        convert(disk, tmp_path / ("n" * 250), deadline=Deadline(60))


def test_a_folder_that_vanishes_or_is_read_only(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "raw")
    out = tmp_path / "out"
    out.mkdir()

    def remove(stage: str, _fraction: float) -> None:
        if stage == "compare" and out.exists():
            shutil.rmtree(out)

    with pytest.raises(errors.OkmError):
        convert(disk, out / "a.qcow2", deadline=Deadline(60), on_progress=remove)
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "okm-test", out], check=True)
    try:
        with pytest.raises(errors.OkmError) as caught:
            convert(disk, out / "a.qcow2", deadline=Deadline(60))
    finally:
        subprocess.run(["umount", out], check=True)
    assert caught.value.exit_code in (20, 21)


def test_the_header_lies_about_the_size(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "vdi")
    lying = describe(Path(disk.path), DiskFormat.VDI, SIZE + MiB)
    with pytest.raises(errors.ContentMismatch, match="says it holds"):
        convert(lying, tmp_path / "out.qcow2", deadline=Deadline(60))
    assert not list(tmp_path.glob("out*"))


def test_a_truncated_disk(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "vdi")
    os.truncate(disk.path, Path(disk.path).stat().st_size - MiB)
    with pytest.raises(errors.SourceCorrupt):
        convert(disk, tmp_path / "out.qcow2", deadline=Deadline(60))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("kind", ["backing", "format"])
def test_a_disk_that_reads_a_stranger_is_refused(content: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.qcow2"
    secret = tmp_path / "secret.raw"
    secret.write_bytes(content.read_bytes())
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(path)]
    subprocess.run(argv, check=True)
    claimed = DiskFormat.QCOW2 if kind == "backing" else DiskFormat.RAW
    expected = errors.SourceUnsafe if kind == "backing" else errors.SourceChanged
    with pytest.raises(expected):
        convert(describe(path, claimed), tmp_path / "out.qcow2", deadline=Deadline(60))
    assert not list(tmp_path.glob("out*"))


def test_the_source_changes_meanwhile(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "raw")

    def touch(stage: str, _fraction: float) -> None:
        if stage == "compare":
            os.utime(disk.path)

    with pytest.raises(errors.SourceChanged):
        convert(disk, tmp_path / "out.qcow2", deadline=Deadline(60), on_progress=touch)
    assert not list(tmp_path.glob("out*"))


def test_the_deadline_leaves_nothing(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "raw")
    with pytest.raises(errors.DeadlineExceeded):
        convert(disk, tmp_path / "out.qcow2", deadline=Deadline(0))
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "okm-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_no_space_is_known_before_copying(
    content: Path, tmp_path: Path, small_volume: Path
) -> None:
    disk = make(content, tmp_path, "vdi")
    with pytest.raises(errors.NoSpace) as caught:
        convert(disk, small_volume / "out.qcow2", deadline=Deadline(60))
    assert caught.value.needed_bytes > caught.value.free_bytes
    assert not list(small_volume.iterdir())


def test_estimates_are_near_the_truth(content: Path, tmp_path: Path) -> None:
    disk = make(content, tmp_path, "vdi-static")
    image = convert(disk, tmp_path / "out.qcow2", deadline=Deadline(60))
    needed = needed_bytes(disk, deadline=Deadline(60))
    guess = estimate(disk)
    assert image.file_bytes <= needed
    assert 0.3 < guess.file_bytes / image.file_bytes < 6
    assert 0 < guess.seconds < 60
    assert source_bytes(disk) <= fingerprint(disk).size_bytes
