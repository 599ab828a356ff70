"""Disks are known by their own numbers: real ones made with qemu-img, and damaged ones."""

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from one_kvm_migrate.disks import vmdk
from one_kvm_migrate.disks.probe import DiskInfo, probe
from one_kvm_migrate.errors import OkmError, SourceCorrupt, SourceError, SourceUnsupported
from one_kvm_migrate.model import DiskFormat
from one_kvm_migrate.units import KiB, MiB

SIZE = 8 * MiB


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, timeout=60, capture_output=True)


def filled_raw(folder: Path) -> Path:
    """A raw disk with data at its start, in the middle and in its last sector."""
    raw = folder / "content.raw"
    with raw.open("wb") as stream:
        stream.truncate(SIZE)
        for at in (0, SIZE // 2, SIZE - 512):
            stream.seek(at)
            stream.write(bytes(range(256)) * 2)
    return raw


def make(folder: Path, driver: str, name: str, *options: str) -> Path:
    target = folder / name
    chosen = ["-o", ",".join(options)] if options else []
    qemu_img("convert", "-f", "raw", "-O", driver, *chosen, filled_raw(folder), target)
    return target


CASES = [
    ("vdi", "a.vdi", (), DiskFormat.VDI, "dynamic"),
    ("vdi", "a.vdi", ("static=on",), DiskFormat.VDI, "fixed"),
    ("vmdk", "a.vmdk", ("subformat=monolithicSparse",), DiskFormat.VMDK, "monolithicSparse"),
    ("vmdk", "a.vmdk", ("subformat=streamOptimized",), DiskFormat.VMDK, "streamOptimized"),
    ("vmdk", "a.vmdk", ("subformat=monolithicFlat",), DiskFormat.VMDK, "monolithicFlat"),
    ("vmdk", "a.vmdk", ("subformat=twoGbMaxExtentFlat",), DiskFormat.VMDK, "twoGbMaxExtentFlat"),
    (
        "vmdk",
        "a.vmdk",
        ("subformat=twoGbMaxExtentSparse",),
        DiskFormat.VMDK,
        "twoGbMaxExtentSparse",
    ),
    ("vpc", "a.vhd", ("subformat=dynamic", "force_size=on"), DiskFormat.VHD, "dynamic"),
    ("vpc", "a.vhd", ("subformat=fixed", "force_size=on"), DiskFormat.VHD, "fixed"),
    ("qcow2", "a.qcow2", (), DiskFormat.QCOW2, "v3"),
    ("qcow2", "a.qcow2", ("compat=0.10",), DiskFormat.QCOW2, "v2"),
    ("vhdx", "a.vhdx", ("subformat=dynamic",), DiskFormat.VHDX, "dynamic"),
    ("vhdx", "a.vhdx", ("subformat=fixed",), DiskFormat.VHDX, "fixed"),
    ("parallels", "a.hdd", (), DiskFormat.PARALLELS, "blocks of 1048576 bytes"),
    ("raw", "a.img", (), DiskFormat.RAW, "raw"),
]


@pytest.mark.parametrize(("driver", "name", "options", "kind", "variant"), CASES)
def test_real_disks(
    tmp_path: Path, driver: str, name: str, options: tuple[str, ...], kind: DiskFormat, variant: str
) -> None:
    path = make(tmp_path, driver, name, *options)
    info = probe(path)
    assert (info.format, info.variant, info.capacity_bytes) == (kind, variant, SIZE)
    assert not info.is_differencing
    assert info.warnings == ()


@pytest.mark.parametrize(("driver", "name", "options", "kind", "variant"), CASES)
def test_disks_in_the_middle_of_another_file(
    tmp_path: Path, driver: str, name: str, options: tuple[str, ...], kind: DiskFormat, variant: str
) -> None:
    path = make(tmp_path, driver, name, *options)
    size = path.stat().st_size
    archive = tmp_path / "box.ova"
    archive.write_bytes(b"x" * 1536 + path.read_bytes() + b"conectix" * 300)
    info = probe(archive, offset_bytes=1536, size_bytes=size, name=f"box.ova/{name}")
    assert (info.format, info.variant, info.capacity_bytes) == (kind, variant, SIZE)
    assert (info.offset_bytes, info.size_bytes) == (1536, size)


def test_extents_of_a_descriptor(tmp_path: Path) -> None:
    info = probe(make(tmp_path, "vmdk", "a.vmdk", "subformat=twoGbMaxExtentFlat"))
    assert info.extents == (
        vmdk.Extent(access="RW", kind="FLAT", name="a-f001.vmdk", size_bytes=SIZE, offset_bytes=0),
    )


def test_uuid_of_a_vdi_is_as_virtualbox_prints_it(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi", "a.vdi")
    patch(path, 0x188, bytes.fromhex("78563412bc9af0deaabbccddeeff0011"))
    assert probe(path).uuid == "12345678-9abc-def0-aabb-ccddeeff0011"


def patch(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)


def differencing_vdi(folder: Path) -> Path:
    path = make(folder, "vdi", "child.vdi")
    patch(path, 0x4C, struct.pack("<I", 4))
    patch(path, 0x1A8, bytes.fromhex("0102030405060708090a0b0c0d0e0f10"))
    return path


def test_differencing_vdi(tmp_path: Path) -> None:
    info = probe(differencing_vdi(tmp_path))
    assert (info.variant, info.is_differencing) == ("differencing", True)
    assert info.parent_uuid == "04030201-0605-0807-090a-0b0c0d0e0f10"


def test_old_vdi_header(tmp_path: Path) -> None:
    path = tmp_path / "old.vdi"
    blocks, block = 4, MiB
    header = struct.pack("<64sIHH", b"<<< innotek VirtualBox Disk Image >>>\n", 0xBEDA107F, 2, 0)
    header += struct.pack("<II256s16sQIII", 1, 0, b"", b"", 4 * MiB, block, blocks, 1)
    header += bytes(range(1, 17)) + bytes(32)
    table = struct.pack("<4I", 0xFFFFFFFF, 0, 0xFFFFFFFE, 0xFFFFFFFF)
    path.write_bytes(header + table + b"d" * block)
    info = probe(path)
    assert (info.variant, info.capacity_bytes, info.allocated_bytes) == ("dynamic", 4 * MiB, MiB)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 1)
    with pytest.raises(SourceCorrupt, match="cut short"):
        probe(path)


def vhd_footer(folder: Path, **changes: bytes) -> Path:
    """A dynamic VHD whose footer fields are changed, with right checksums."""
    path = make(folder, "vpc", "a.vhd", "subformat=dynamic", "force_size=on")
    places = {"creator": 28, "size": 48, "chs": 56, "kind": 60}
    data = bytearray(path.read_bytes())
    for start in (0, len(data) - 512):
        footer = data[start : start + 512]
        for field, value in changes.items():
            footer[places[field] : places[field] + len(value)] = value
        footer[64:68] = bytes(4)
        footer[64:68] = ((~sum(footer)) & 0xFFFFFFFF).to_bytes(4, "big")
        data[start : start + 512] = footer
    path.write_bytes(data)
    return path


def test_vhd_of_virtualbox_is_larger_than_its_geometry(tmp_path: Path) -> None:
    chs = struct.pack(">HBB", 240, 4, 17)
    path = vhd_footer(tmp_path, creator=b"vbox", chs=chs)
    info = probe(path)
    assert info.capacity_bytes == SIZE
    assert len(info.warnings) == 1
    assert f"{240 * 4 * 17 * 512} bytes" in info.warnings[0]
    seen = subprocess.run(
        ["qemu-img", "info", "-f", "vpc", path], check=True, capture_output=True, timeout=60
    )
    assert f"({240 * 4 * 17 * 512} bytes)" in seen.stdout.decode()


def test_vhd_of_hyper_v_needs_no_warning(tmp_path: Path) -> None:
    chs = struct.pack(">HBB", 240, 4, 17)
    assert probe(vhd_footer(tmp_path, creator=b"win ", chs=chs)).warnings == ()


def test_differencing_vhd(tmp_path: Path) -> None:
    assert probe(vhd_footer(tmp_path, kind=struct.pack(">I", 4))).is_differencing


DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=0a0b0c0d
parentCID={cid}
createType="monolithicFlat"
{extra}
RW 16384 FLAT "flat.vmdk" 0
"""


@pytest.mark.parametrize(
    ("cid", "extra", "differencing"),
    [
        ("ffffffff", "", False),
        ("FFFFFFFF", 'ddb.uuid.parent="00000000-0000-0000-0000-000000000000"', False),
        ("0a0b0c0d", "", True),
        ("ffffffff", 'parentFileNameHint="base.vmdk"', True),
        ("ffffffff", '# parentFileNameHint="base.vmdk"', True),
        ("ffffffff", 'ddb.uuid.parent="5d9f5d5e-0000-4000-8000-000000000001"', True),
    ],
)
def test_vmdk_parents(tmp_path: Path, cid: str, extra: str, differencing: bool) -> None:
    path = tmp_path / "a.vmdk"
    path.write_text(DESCRIPTOR.format(cid=cid, extra=extra))
    assert probe(path).is_differencing is differencing


def test_parent_where_qemu_looks_for_it_and_the_header_does_not(tmp_path: Path) -> None:
    path = make(tmp_path, "vmdk", "a.vmdk", "subformat=monolithicSparse")
    honest = path.read_bytes()[512 : 512 + 600]
    patch(path, 28, struct.pack("<QQ", 8, 8))
    patch(path, 8 * 512, honest)
    text = 'CID=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\n'
    patch(path, 512, f'{text}parentFileNameHint="/etc/passwd"\n'.encode())
    info = subprocess.run(
        ["qemu-img", "info", "-f", "vmdk", path], check=False, capture_output=True, timeout=60
    )
    assert b"/etc/passwd" in info.stdout + info.stderr
    with path.open("rb") as stream:
        assert b"parentFileNameHint" not in stream.read()[8 * 512 : 16 * 512]
    assert probe(path).is_differencing


# Descriptors have no data of their own: safety checks their extents. qemu checks VHDX regions.
_WITH_DATA = [
    (case[0], case[1], case[2])
    for case in CASES
    if case[0] not in ("raw", "vhdx") and not case[4].endswith("Flat") and case[4][:3] != "two"
]


@pytest.mark.parametrize(("driver", "name", "options"), _WITH_DATA)
def test_every_cut_is_noticed(
    tmp_path: Path, driver: str, name: str, options: tuple[str, ...]
) -> None:
    path = make(tmp_path, driver, name, *options)
    whole = path.read_bytes()
    # qemu pads its streams with a grain of zeros, which nobody needs.
    tail = 64 * KiB - 200 if "subformat=streamOptimized" in options else 512
    cuts = [len(whole) - tail, len(whole) // 2, 600, 100]
    if driver in ("qcow2", "parallels"):
        # qemu itself checks where their tables point: only the tables must be there.
        cuts = [60]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(SourceCorrupt):
            probe(path)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("a.vdi", b"", SourceCorrupt, "is empty"),
        ("a.vdi", bytes(MiB), SourceCorrupt, "does not begin as a VDI file does"),
        ("a-flat.vmdk", bytes(MiB), SourceCorrupt, "does not begin as a VMDK file does"),
        ("notes.txt", b"some notes\n", SourceUnsupported, "unknown format"),
        ("a.qcow2", b"QFI\xfb\0\0\0\1" + bytes(600), SourceUnsupported, "version 1"),
        ("a.vmdk", b"# Disk DescriptorFile\nversion=1\n", SourceCorrupt, "createType"),
    ],
)
def test_not_a_disk(
    tmp_path: Path, name: str, content: bytes, error: type[OkmError], words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        probe(path)


def test_a_part_of_a_vmdk_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    make(tmp_path, "vmdk", "a.vmdk", "subformat=twoGbMaxExtentSparse")
    with pytest.raises(SourceUnsupported, match="only a part"):
        probe(tmp_path / "a-s001.vmdk")


def test_raw_by_size_or_suffix(tmp_path: Path) -> None:
    for name, size in (("a.img", 700), ("a.dd", 512), ("no-suffix", 4096)):
        (tmp_path / name).write_bytes(bytes(size))
        info = probe(tmp_path / name)
        assert (info.format, info.capacity_bytes) == (DiskFormat.RAW, -(-size // 512) * 512)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.vdi does not exist"):
        probe(tmp_path / "nothing.vdi")


def test_a_huge_lie_is_refused_quickly(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi", "a.vdi")
    patch(path, 0x170, struct.pack("<QIII", 1 << 51, MiB, 0, 0xFFFFFFFF))
    with path.open("r+b") as stream:
        stream.truncate(1 << 42)
    with pytest.raises(SourceUnsupported, match="block map"):
        probe(path)


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    folder = tmp_path_factory.mktemp("headers")
    found = []
    for driver, name, options, _, variant in CASES:
        if driver == "raw" or variant == "fixed":
            continue
        data = make(folder, driver, name, *options).read_bytes()
        found.append((name, data[: 300 * KiB] + data[-1024:]))
    return found


@seed(20261124)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutations_raise_only_our_errors(
    headers: list[tuple[str, bytes]], tmp_path: Path, data: st.DataObject
) -> None:
    name, whole = data.draw(st.sampled_from(headers))
    changed = bytearray(whole)
    ends = st.one_of(st.integers(0, 600), st.integers(len(changed) - 1024, len(changed) - 8))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(ends)
        value = data.draw(st.sampled_from([b"\xff" * 8, bytes(8), b"\x7f" * 4, b"\1", b"\x80"]))
        changed[at : at + len(value)] = value
    cut = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    path = tmp_path / name
    path.write_bytes(changed[:cut])
    try:
        info = probe(path)
    except OkmError:
        return
    assert isinstance(info, DiskInfo)
    assert info.capacity_bytes > 0
