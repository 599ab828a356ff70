"""Bad input: one clear sentence, a stable exit status, and nothing left behind."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from one_kvm_migrate.opennebula.template import to_xml

from .cloud import COMMAND, Cloud, make_machine, running_cloud

Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


def missing_disk(folder: Path) -> Path:
    vbox = make_machine(folder)
    vbox.with_suffix(".vdi").unlink()
    return vbox


def truncated_disk(folder: Path) -> Path:
    vbox = make_machine(folder)
    os.truncate(vbox.with_suffix(".vdi"), vbox.with_suffix(".vdi").stat().st_size - 4096)
    return vbox


def header_only(folder: Path) -> Path:
    vbox = make_machine(folder)
    os.truncate(vbox.with_suffix(".vdi"), 100)
    return vbox


def broken_xml(folder: Path) -> Path:
    vbox = make_machine(folder)
    os.truncate(vbox, vbox.stat().st_size // 2)
    return vbox


def not_a_machine(folder: Path) -> Path:
    path = folder / "note.xml"
    path.write_text("<note>buy milk</note>")
    return path


def entity_bomb(folder: Path) -> Path:
    path = folder / "bomb.vbox"
    path.write_text(
        '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><VirtualBox>&c;</VirtualBox>'
    )
    return path


def unknown_format(folder: Path) -> Path:
    path = folder / "letter.pdf"
    path.write_bytes(b"%PDF-1.4" + bytes(1000))
    return path


def qcow2_with_backing_file(folder: Path) -> Path:
    path = folder / "evil.qcow2"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw"]
    subprocess.run([*argv, str(path), "1M"], check=True)
    return path


def vmdk_with_foreign_extent(folder: Path) -> Path:
    path = folder / "evil.vmdk"
    path.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        'createType="monolithicFlat"\n\nRW 8 FLAT "/etc/passwd" 0\n\n'
        '#DDB\nddb.adapterType = "ide"\n'
    )
    return path


def snapshot_child(folder: Path) -> Path:
    path = folder / "child.vmdk"
    path.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=87654321\n"
        'createType="monolithicFlat"\n\nRW 8 FLAT "flat.vmdk" 0\n'
    )
    (folder / "flat.vmdk").write_bytes(bytes(4096))
    return path


def a_folder(folder: Path) -> Path:
    return folder


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.vdi")
    return folder / "pipe.vdi"


CASES: dict[str, tuple[Make, int, str]] = {
    "missing source": (lambda folder: folder / "none.vbox", 10, "does not exist"),
    "missing disk": (missing_disk, 10, "web.vdi"),
    "truncated disk": (truncated_disk, 12, "web.vdi"),
    "header only": (header_only, 12, "web.vdi"),
    "broken XML": (broken_xml, 12, "not valid XML"),
    "no machine": (not_a_machine, 11, "describes no machine"),
    "entities": (entity_bomb, 13, "document type"),
    "unknown format": (unknown_format, 11, "unknown format"),
    "qcow2 backing file": (qcow2_with_backing_file, 13, "/etc/passwd"),
    "VMDK extent": (vmdk_with_foreign_extent, 13, "/etc/passwd"),
    "snapshot": (snapshot_child, 11, "differencing"),
    "folder": (a_folder, 10, "is a directory"),
    "pipe": (a_pipe, 10, "is a named pipe"),
}


def assert_refused(
    cloud: Cloud, done: "subprocess.CompletedProcess[str]", code: int, words: str
) -> None:
    assert done.returncode == code, (done.returncode, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("one-kvm-migrate: error: "), done.stderr
    assert words in lines[0]
    assert "Traceback" not in done.stderr
    left = cloud.leftovers()
    assert left == {key: [] for key in left}


@pytest.mark.parametrize("name", CASES)
def test_sources(cloud: Cloud, tmp_path: Path, name: str) -> None:
    make, code, words = CASES[name]
    source = make(tmp_path)
    assert_refused(cloud, cloud.run("run", source, "-d", "default", "-q"), code, words)


@pytest.mark.parametrize(
    "name", ["qcow2 backing file", "VMDK extent", "unknown format", "snapshot"]
)
def test_convert_refuses_the_same(cloud: Cloud, tmp_path: Path, name: str) -> None:
    make, code, words = CASES[name]
    source = make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    assert_refused(cloud, cloud.run("convert", "-q", source, out / "x.qcow2"), code, words)
    assert not list(out.iterdir())


def test_a_disk_that_may_not_be_read(cloud: Cloud, tmp_path: Path) -> None:
    disk = make_machine(tmp_path).with_suffix(".vdi")
    disk.chmod(0)
    # Root reads everything; without these capabilities it is a user like any other.
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    argv = [*drop, *COMMAND, "run", str(disk), "-d", "default", "-q"]
    done = subprocess.run(argv, env=cloud.environ, capture_output=True, text=True, check=False)
    assert_refused(cloud, done, 10, "may not be read")


def test_unknown_names(cloud: Cloud, tmp_path: Path) -> None:
    vbox = make_machine(tmp_path)
    for options, words in (
        (("-d", "nowhere"), "datastore nowhere does not exist. There are: default, files, system."),
        (("-d", "system"), "datastore system is not an image datastore"),
        (("-d", "default", "--network", "nonet"), "network nonet does not exist"),
        (("-d", "default", "--host", "nohost"), "host nohost does not exist"),
        (("-d", "99"), "datastore 99 does not exist"),
    ):
        assert_refused(cloud, cloud.run("run", vbox, "-q", *options), 33, words)


def test_a_user_without_the_right(cloud: Cloud, tmp_path: Path) -> None:
    vbox = make_machine(tmp_path)
    with cloud.client() as one:
        one.number("one.user.allocate", "ana", "secret", "core", [])
    auth = tmp_path / "auth"
    auth.write_text("ana:secret")
    argv = [*COMMAND, "run", str(vbox), "-d", "default", "-q"]
    environ = {**cloud.environ, "ONE_AUTH": str(auth)}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert_refused(cloud, done, 31, "user ana may not register images by SOURCE")


def test_a_folder_that_is_not_writable(cloud: Cloud, tmp_path: Path) -> None:
    vbox = make_machine(tmp_path)
    folder = cloud.folder()
    mode = folder.stat().st_mode & 0o777
    folder.chmod(0o555)
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    argv = [*drop, *COMMAND, "run", str(vbox), "-d", "default", "-q"]
    try:
        done = subprocess.run(argv, env=cloud.environ, capture_output=True, text=True, check=False)
    finally:
        folder.chmod(mode)
    assert_refused(cloud, done, 3, "is not writable")


def test_wrong_password(cloud: Cloud, tmp_path: Path) -> None:
    vbox = make_machine(tmp_path)
    auth = tmp_path / "auth"
    auth.write_text("oneadmin:wrong")
    argv = [*COMMAND, "run", str(vbox), "-d", "default", "-q"]
    environ = {**cloud.environ, "ONE_AUTH": str(auth)}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert_refused(cloud, done, 31, "refuses the user name or password")
    assert "wrong" not in done.stderr


@pytest.mark.parametrize(
    ("endpoint", "code", "words"),
    [
        ("http://127.0.0.1:9/RPC2", 32, "cannot reach OpenNebula at http://127.0.0.1:9/RPC2"),
        ("nonsense", 3, "not an XML-RPC endpoint"),
    ],
)
def test_no_opennebula(cloud: Cloud, tmp_path: Path, endpoint: str, code: int, words: str) -> None:
    vbox = make_machine(tmp_path)
    done = cloud.run("run", vbox, "-d", "default", "-q", "--endpoint", endpoint)
    assert_refused(cloud, done, code, words)


def test_no_space_is_found_before_copying(cloud: Cloud, tmp_path: Path) -> None:
    vbox = make_machine(tmp_path)
    template = to_xml(
        [("NAME", "tiny"), ("DS_MAD", "fs"), ("TM_MAD", "qcow2"), ("TYPE", "IMAGE_DS")]
    )
    with cloud.client() as one:
        number = one.number("one.datastore.allocate", template, -1)
        folder = one.document("one.datastore.info", number).findtext("BASE_PATH") or ""
    Path(folder).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "okm-test", folder], check=True)
    try:
        done = cloud.run("run", vbox, "-d", "tiny", "-q")
        assert_refused(cloud, done, 20, "not enough space in ")
        assert not list(Path(folder).iterdir())
    finally:
        subprocess.run(["umount", folder], check=True)


def test_usage(cloud: Cloud, tmp_path: Path) -> None:
    done = cloud.run("run", tmp_path / "a", tmp_path / "b", "-d", "default", "--name", "x")
    assert_refused(cloud, done, 2, "--name fits one source only")
    assert cloud.run("nonsense").returncode == 2
    assert cloud.run("resume", "nope").returncode == 60
