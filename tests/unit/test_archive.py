"""OVA archives are listed in place, and hostile ones refused."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from one_kvm_migrate.errors import OkmError, SourceCorrupt, SourceUnsafe, SourceUnsupported
from one_kvm_migrate.tools.archive import list_members, read_member
from one_kvm_migrate.units import MiB


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def tar(
    path: Path, fill: Callable[[tarfile.TarFile], None], format: int = tarfile.GNU_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=format) as archive:
        fill(archive)
    return path


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_they_are_said_to(tmp_path: Path, format: int) -> None:
    contents = {"box.ovf": b"<Envelope/>", "box-disk1.vmdk": bytes(range(256)) * 33, "empty": b""}
    if format != tarfile.USTAR_FORMAT:
        contents["long" * 40 + ".vmdk"] = b"long"

    def fill(archive: tarfile.TarFile) -> None:
        add(archive, "folder", type=tarfile.DIRTYPE)
        for name, data in contents.items():
            add(archive, f"./{name}", data)

    path = tar(tmp_path / "box.ova", fill, format)
    members = list_members(path)
    assert [member.name for member in members] == list(contents)
    whole = path.read_bytes()
    for member in members:
        end = member.offset_bytes + member.size_bytes
        assert whole[member.offset_bytes : end] == contents[member.name]
        assert read_member(path, member, max_bytes=MiB) == contents[member.name]


def test_large_members_are_not_read(tmp_path: Path) -> None:
    path = tar(tmp_path / "box.ova", lambda archive: add(archive, "a.ovf", bytes(2000)))
    (member,) = list_members(path)
    with pytest.raises(SourceCorrupt, match="2000 bytes, more than 1999"):
        read_member(path, member, max_bytes=1999)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("/etc/passwd", {}, "leads out"),
        ("../disk.vmdk", {}, "leads out"),
        ("a/../../disk.vmdk", {}, "leads out"),
        ("..\\disk.vmdk", {}, "leads out"),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "not an ordinary file"),
        ("link", {"type": tarfile.LNKTYPE, "linkname": "a.ovf"}, "not an ordinary file"),
        ("pipe", {"type": tarfile.FIFOTYPE}, "not an ordinary file"),
        ("sda", {"type": tarfile.BLKTYPE}, "not an ordinary file"),
        ("a.ovf", {}, "twice"),
        ("./a.ovf", {}, "twice"),
        (".", {}, "not an ordinary file"),
    ],
)
def test_hostile_members(tmp_path: Path, name: str, fields: dict[str, object], words: str) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        add(archive, "a.ovf", b"<Envelope/>")
        add(archive, name, b"", **fields)

    with pytest.raises(SourceUnsafe, match=words):
        list_members(tar(tmp_path / "box.ova", fill))


def test_compressed_archives_are_named(tmp_path: Path) -> None:
    plain = tar(tmp_path / "box.tar", lambda archive: add(archive, "a.ovf", b"<Envelope/>"))
    packed = tmp_path / "box.ova"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(SourceUnsupported, match="compressed with gzip") as caught:
        list_members(packed)
    assert "gunzip" in caught.value.hint


def test_sparse_members(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "box.ova",
        lambda archive: add(archive, "a.vmdk", bytes(512), type=tarfile.GNUTYPE_SPARSE),
    )
    with pytest.raises(SourceUnsupported, match="sparse"):
        list_members(path)


@pytest.mark.parametrize("cut", [100, 512, 1024, 1500])
def test_cut_short(tmp_path: Path, cut: int) -> None:
    path = tar(tmp_path / "box.ova", lambda archive: add(archive, "a.vmdk", b"d" * 4000))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceCorrupt):
        list_members(path)


def test_no_archive_at_all(tmp_path: Path) -> None:
    for data in (b"", b"nothing like a tar" * 100):
        (tmp_path / "a.ova").write_bytes(data)
        with pytest.raises(SourceCorrupt, match="tar archive"):
            list_members(tmp_path / "a.ova")


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "box.ova"
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with path.open("r+b") as stream:
        stream.truncate(1 << 41)
    with pytest.raises(SourceCorrupt, match="far too large"):
        list_members(path)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("tar")

    def fill(archive: tarfile.TarFile) -> None:
        add(archive, "a.ovf", b"<Envelope/>" * 20)
        add(archive, "long" * 40, b"d" * 700)

    formats = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    return [tar(folder / str(number), fill, number).read_bytes() for number in formats]


@seed(20261124)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutations_raise_only_our_errors(
    archives: list[bytes], tmp_path: Path, data: st.DataObject
) -> None:
    changed = bytearray(data.draw(st.sampled_from(archives)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 3000))
        changed[at : at + 1] = data.draw(st.binary(min_size=1, max_size=12))
    # Right checksums, so that the changed fields are looked at.
    for start in range(0, len(changed) - 512, 512):
        block = changed[start : start + 512]
        if block[257:262] == b"ustar" and data.draw(st.booleans()):
            block[148:156] = b" " * 8
            changed[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    path = tmp_path / "a.ova"
    path.write_bytes(changed)
    try:
        members = list_members(path)
    except OkmError:
        return
    assert all(0 <= m.offset_bytes <= len(changed) - m.size_bytes for m in members)
