"""Deleting images: what the datastore driver refuses, retries, force, and interrupted deletes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from one_kvm_migrate.sim.service import Sim, SimConfig
from tests.integration.simulator.asker import Asker, qcow2, state

READY, USED, LOCKED, ERROR, CLONE, DELETE = 1, 2, 4, 5, 6, 7
ACTION, INTERNAL, NO_EXISTS = 0x800, 0x2000, 0x400
STORE = 1
RETRY = "Error removing image from datastore. Retry the operation or manually remove image source"


def folder(ask: Asker) -> Path:
    """Folder of the image datastore, spelt as oned does (with a double slash)."""
    return Path(ask.xml("one.datastore.info", STORE).findtext("BASE_PATH") or "")


def add(ask: Asker, name: str = "disk", *, options: str = "") -> tuple[int, Path]:
    """An image registered with SOURCE, and its file."""
    path = qcow2(folder(ask) / name)
    base = ask.xml("one.datastore.info", STORE).findtext("BASE_PATH")
    text = f'NAME={name}\nSOURCE="{base}/{name}"\nSIZE=8\nFORMAT=qcow2\n{options}'
    return int(ask("one.image.allocate", text, STORE)), path


def is_gone(ask: Asker, oid: int) -> bool:
    """True once the image is no longer known, nor counted in its datastore."""
    refused = not ask.raw("one.image.info", oid)[0]
    listed = ask.xml("one.datastore.info", STORE).xpath(f"IMAGES/ID[.={oid}]")
    return refused and not listed


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Not even root can remove *path*."""
    subprocess.run(["chattr", "+i", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Asker]:
    """A simulator whose jobs run only when it is asked to settle."""
    with Sim(SimConfig(dir=tmp_path / "sim", step=True)) as sim:
        ask = Asker(sim)
        ask.settle()
        yield ask


@contextmanager
def restarted(ask: Asker) -> Iterator[Asker]:
    """The simulator stopped in the middle of its work, and another one on its directory."""
    ask.sim.stop()
    with Sim(ask.sim.config) as sim:
        yield Asker(sim)


def test_a_file_that_cannot_be_removed_is_an_error_until_it_can(ask: Asker) -> None:
    oid, path = add(ask)
    with immutable(path):
        for _ in range(2):
            ask("one.image.delete", oid, False)
            ask.settle()
            assert state(ask, oid) == ERROR
        why = ask.xml("one.image.info", oid).findtext("TEMPLATE/ERROR") or ""
        assert RETRY in why
    ask("one.image.delete", oid, False)
    ask.settle()
    assert is_gone(ask, oid)
    assert not path.exists()


def test_force_drops_the_record_and_leaves_the_file(ask: Asker) -> None:
    oid, path = add(ask)
    with immutable(path):
        ask("one.image.delete", oid, True)
        ask.settle()
        assert is_gone(ask, oid)
    assert path.exists()


def test_a_directory_is_no_image(ask: Asker) -> None:
    oid, path = add(ask)
    path.unlink()
    path.mkdir()
    ask("one.image.delete", oid, False)
    ask.settle()
    assert (state(ask, oid), path.is_dir()) == (ERROR, True)


def test_a_file_that_is_gone_needs_force(ask: Asker) -> None:
    """The fs driver's rm checks that the file is there."""
    oid, path = add(ask)
    path.unlink()
    ask("one.image.delete", oid, False)
    ask.settle()
    assert state(ask, oid) == ERROR
    ask("one.image.delete", oid, True)
    ask.settle()
    assert is_gone(ask, oid)


def test_snapshots_go_with_the_file(ask: Asker) -> None:
    oid, path = add(ask)
    snapshots = path.with_name(f"{path.name}.snap")
    snapshots.mkdir()
    (snapshots / "0").write_bytes(b"x")
    ask("one.image.delete", oid, False)
    ask.settle()
    assert is_gone(ask, oid)
    assert not snapshots.exists()


def test_an_image_without_file_is_dropped_at_once(stepped: Asker, tmp_path: Path) -> None:
    missing = qcow2(tmp_path / "in" / "a.qcow2")
    stepped("one.datastore.update", STORE, f'SAFE_DIRS="{missing.parent}"', 1)
    oid = stepped("one.image.allocate", f'NAME=i\nPATH="{missing}"', STORE)
    missing.unlink()
    stepped.settle()
    assert state(stepped, oid) == ERROR
    stepped("one.image.delete", oid, False)
    assert is_gone(stepped, oid)


def test_a_locked_image_needs_force(stepped: Asker) -> None:
    oid = stepped("one.image.allocate", "NAME=i\nTYPE=DATABLOCK\nSIZE=1", STORE)
    assert state(stepped, oid) == LOCKED
    code, text = stepped.refusal("one.image.delete", oid, False)
    assert code == INTERNAL
    assert "Image locked, use --force flag to remove the image" in text
    stepped("one.image.delete", oid, True)
    stepped.settle()
    assert is_gone(stepped, oid)


@pytest.mark.parametrize("persistent", [False, True])
def test_the_source_of_a_clone_is_kept_while_it_is_copied(stepped: Asker, persistent: bool) -> None:
    source, _ = add(stepped, options="PERSISTENT=YES" if persistent else "")
    copy = stepped("one.image.clone", source, "copy", -1)
    assert state(stepped, source) == (CLONE if persistent else USED)
    code, text = stepped.refusal("one.image.delete", source, False)
    kind = "1 active clone operations" if persistent else "0 VMs using it"
    assert (code, text) == (ACTION, f"[one.image.delete] Cannot delete image. There are {kind}.")
    stepped("one.image.delete", copy, True)
    assert state(stepped, source) == READY
    assert stepped.xml("one.image.info", source).findtext("CLONING_OPS") == "0"
    stepped.settle()
    assert is_gone(stepped, copy)


@pytest.mark.parametrize("file_is_gone", [False, True])
def test_an_interrupted_delete_ends(stepped: Asker, file_is_gone: bool) -> None:
    oid, path = add(stepped)
    stepped("one.image.delete", oid, False)
    assert state(stepped, oid) == DELETE
    if file_is_gone:
        path.unlink()
    with restarted(stepped) as ask:
        assert state(ask, oid) == DELETE
        ask.settle()
        if file_is_gone:
            assert state(ask, oid) == ERROR
            ask("one.image.delete", oid, True)
            ask.settle()
        assert is_gone(ask, oid)
    assert not path.exists()


def test_an_interrupted_forced_delete_stays_forced(stepped: Asker) -> None:
    oid, path = add(stepped)
    stepped("one.image.delete", oid, True)
    path.unlink()
    with restarted(stepped) as ask:
        ask.settle()
        assert is_gone(ask, oid)


def test_a_delete_that_hangs_can_be_asked_for_again(stepped: Asker) -> None:
    oid, path = add(stepped)
    path.unlink()
    stepped("one.image.delete", oid, False)
    stepped("one.image.delete", oid, True)
    stepped.settle()
    assert is_gone(stepped, oid)


def test_an_interrupted_copy_is_made(stepped: Asker, tmp_path: Path) -> None:
    source = qcow2(tmp_path / "in" / "a.qcow2")
    stepped("one.datastore.update", STORE, f'SAFE_DIRS="{source.parent}"', 1)
    oid = stepped("one.image.allocate", f'NAME=i\nPATH="{source}"', STORE)
    with restarted(stepped) as ask:
        assert state(ask, oid) == LOCKED
        ask.settle()
        assert state(ask, oid) == READY
        copy = ask.xml("one.image.info", oid).findtext("SOURCE") or ""
        assert os.path.getsize(copy) == source.stat().st_size


def test_deleting_needs_the_owner(ask: Asker, ana: Asker) -> None:
    oid, path = add(ask)
    for force in (False, True):
        assert ana.refusal("one.image.delete", oid, force)[0] == 0x200
    ask("one.image.chown", oid, 2, -1)
    ana("one.image.delete", oid, True)
    ask.settle()
    assert is_gone(ask, oid)
    assert not path.exists()
