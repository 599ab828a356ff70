"""Disks that reach outside themselves are refused before any tool opens them."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from one_kvm_migrate.disks.probe import probe
from one_kvm_migrate.disks.safety import check, extent_paths
from one_kvm_migrate.errors import SourceCorrupt, SourceError, SourceUnsafe, SourceUnsupported
from one_kvm_migrate.tools.files import Window, open_regular
from one_kvm_migrate.units import MiB


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, timeout=60, capture_output=True)


def descriptor(folder: Path, *extents: str, name: str = "a.vmdk") -> Path:
    path = folder / name
    lines = ["# Disk DescriptorFile", "version=1", "CID=1", "parentCID=ffffffff"]
    lines += ['createType="custom"', *extents]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "subformat",
    [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "streamOptimized",
    ],
)
def test_honest_vmdks_pass(tmp_path: Path, subformat: str) -> None:
    path = tmp_path / "a.vmdk"
    qemu_img("create", "-f", "vmdk", "-o", f"subformat={subformat}", path, "4M")
    info = probe(path)
    check(info)
    assert all(extent.parent == tmp_path and extent.is_file() for extent in extent_paths(info))
    assert len(extent_paths(info)) == len(info.extents)


@pytest.mark.parametrize("options", ["", "data_file={folder}/data.raw"])
def test_qcow2_with_another_file(tmp_path: Path, options: str) -> None:
    path = tmp_path / "a.qcow2"
    if options:
        qemu_img("create", "-f", "qcow2", "-o", options.format(folder=tmp_path), path, "4M")
        named = "data.raw"
    else:
        qemu_img("create", "-f", "raw", tmp_path / "base.img", "4M")
        qemu_img("create", "-f", "qcow2", "-b", tmp_path / "base.img", "-F", "raw", path)
        named = "base.img"
    with pytest.raises(SourceUnsafe, match=named):
        check(probe(path))
    with pytest.raises(SourceUnsafe):
        check(probe(path), allow_differencing=True)


def test_encrypted_qcow2(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    # qemu-img measures its key derivation by CPU time, which containers may not tell.
    qemu_img("create", "-f", "qcow2", path, "4M")
    with path.open("r+b") as stream:
        stream.seek(32)
        stream.write((2).to_bytes(4, "big"))
    with pytest.raises(SourceUnsupported, match="encrypted"):
        check(probe(path))


@pytest.mark.parametrize(
    "extent",
    [
        'RW 8192 FLAT "/etc/passwd" 0',
        'RW 8192 FLAT "../secret.img" 0',
        'RW 8192 FLAT "sub/../../secret.img" 0',
        'RW 8192 FLAT "/dev/sda" 0',
        'RW 8192 FLAT "C:\\disks\\secret.img" 0',
        'RW 8192 FLAT "..\\secret.img" 0',
        'RW 8192 FLAT "nbd:127.0.0.1:10809" 0',
        "RW 8192 FLAT \"json:{'driver':'file'}\" 0",
        '\t RW\t8192 \tFLAT\t"/etc/passwd" 0',
        'RDONLY 8192 SPARSE "/etc/passwd"',
        'RW 8192 FLAT "link-outside.img" 0',
        'RW 8192 FLAT "links/secret.img" 0',
        'RW 8192 FLAT "loop.img" 0',
        'RW 8192 SPARSE "a.vmdk"',
        'RW 8192 DEVICE "disk.img" 0',
        'RW 8192 FLAT "" 0',
    ],
)
def test_extents_outside_the_folder(tmp_path: Path, extent: str) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    (tmp_path / "secret.img").write_bytes(bytes(4 * MiB))
    (folder / "disk.img").write_bytes(bytes(4 * MiB))
    (folder / "link-outside.img").symlink_to(tmp_path / "secret.img")
    (folder / "links").symlink_to(tmp_path)
    (folder / "loop.img").symlink_to(folder / "loop.img")
    info = probe(descriptor(folder, extent))
    with pytest.raises(SourceUnsafe):
        check(info)


def test_links_inside_the_folder_are_fine(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(4 * MiB))
    (tmp_path / "link.img").symlink_to("disk.img")
    info = probe(descriptor(tmp_path, 'RW 8192 FLAT "link.img" 0', "RW 2048 ZERO"))
    check(info)
    assert info.capacity_bytes == 5 * MiB
    assert extent_paths(info) == (tmp_path / "disk.img",)


@pytest.mark.parametrize(
    ("extent", "words"),
    [
        ('RW 8192 FLAT "missing.img" 0', "does not exist"),
        ('RW 8193 FLAT "disk.img" 0', "cut short"),
        ('RW 8192 FLAT "disk.img" 1', "cut short"),
        ('RW 8192 SPARSE "disk.img"', "no sparse extent"),
        ('RW 8192 FLAT "pipe" 0', "a named pipe"),
    ],
)
def test_extents_that_cannot_be_used(tmp_path: Path, extent: str, words: str) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(4 * MiB))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=words):
        check(probe(descriptor(tmp_path, extent)))


@pytest.mark.parametrize("line", ["RW many FLAT x", 'RW -5 FLAT "x"', "RW 5 FLAT"])
def test_extents_that_cannot_be_read(tmp_path: Path, line: str) -> None:
    with pytest.raises(SourceCorrupt, match="extent"):
        probe(descriptor(tmp_path, line))


def test_sparse_extent_of_another_size(tmp_path: Path) -> None:
    qemu_img("create", "-f", "vmdk", tmp_path / "part.vmdk", "4M")
    with pytest.raises(SourceCorrupt, match="holds 4194304 bytes"):
        check(probe(descriptor(tmp_path, 'RW 4096 SPARSE "part.vmdk"')))
    check(probe(descriptor(tmp_path, 'RW 8192 SPARSE "part.vmdk"')))


def test_sparse_extent_with_a_parent_of_its_own(tmp_path: Path) -> None:
    qemu_img("create", "-f", "vmdk", tmp_path / "base.vmdk", "4M")
    backing = ["-b", str(tmp_path / "base.vmdk"), "-F", "vmdk"]
    qemu_img("create", "-f", "vmdk", *backing, tmp_path / "part.vmdk")
    with pytest.raises(SourceUnsafe, match="parent of its own"):
        check(probe(descriptor(tmp_path, 'RW 8192 SPARSE "part.vmdk"')))


def test_differencing_disks_are_described_but_not_opened(tmp_path: Path) -> None:
    qemu_img("create", "-f", "vmdk", tmp_path / "base.vmdk", "4M")
    backing = ["-b", str(tmp_path / "base.vmdk"), "-F", "vmdk"]
    qemu_img("create", "-f", "vmdk", *backing, tmp_path / "child.vmdk")
    info = probe(tmp_path / "child.vmdk")
    assert info.is_differencing
    check(info, allow_differencing=True)
    with pytest.raises(SourceUnsupported, match="differencing") as caught:
        check(info)
    assert "Merge the snapshots" in caught.value.hint


def test_descriptor_inside_an_archive(tmp_path: Path) -> None:
    path = descriptor(tmp_path, 'RW 8192 FLAT "disk.img" 0')
    archive = tmp_path / "a.ova"
    archive.write_bytes(bytes(512) + path.read_bytes())
    info = probe(archive, offset_bytes=512, name="a.ova/a.vmdk")
    with pytest.raises(SourceUnsupported, match=r"a\.ova/a\.vmdk"):
        check(info)


@pytest.mark.timeout(10)
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        cases = {"pipe": "a named pipe", "folder": "a directory", "socket": "not a regular file"}
        for name, words in cases.items():
            with pytest.raises(SourceError, match=words):
                open_regular(tmp_path / name)
    with pytest.raises(SourceError, match="a character device"):
        open_regular(Path("/dev/null"))
    with pytest.raises(SourceError, match="is not a file name"):
        open_regular(Path("a\0b"))


def test_files_are_closed(tmp_path: Path) -> None:
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.vdi").write_bytes(bytes(700))
    for name in ("pipe", "a.vdi"):
        with pytest.raises(SourceError):
            probe(tmp_path / name)
    with pytest.raises(SourceCorrupt):
        Window(tmp_path / "a.vdi", offset_bytes=0, size_bytes=701)
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads
