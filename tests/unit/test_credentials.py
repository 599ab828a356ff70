"""Credentials come from the places onevm looks in, in its order."""

from pathlib import Path

import pytest

from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.opennebula.credentials import DEFAULT_ENDPOINT, Credentials, find
from one_kvm_migrate.secret import Secret


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/.one").mkdir(parents=True)
    (tmp_path / "one/.one").mkdir(parents=True)
    return tmp_path / "home"


def look(home: Path, environ: dict[str, str] | None = None, **options: str) -> Credentials:
    return find(
        user=options.get("user"),
        password=Secret(options["password"]) if "password" in options else None,
        endpoint=options.get("endpoint"),
        environ=environ or {},
        home=home,
        oneadmin_home=home.parent / "one",
    )


def session(found: Credentials) -> str:
    return found.session.reveal()


def test_order_of_the_places(home: Path) -> None:
    with pytest.raises(ConfigError, match="no OpenNebula credentials"):
        look(home)
    (home.parent / "one/.one/one_auth").write_text("oneadmin:from-one\n")
    assert session(look(home)) == "oneadmin:from-one"
    (home / ".one/one_auth").write_text("ana:from-home\n")
    assert session(look(home)) == "ana:from-home"
    named = home / "auth"
    named.write_text("bob:from-env\n")
    assert session(look(home, {"ONE_AUTH": str(named)})) == "bob:from-env"
    # onevm uses ONE_AUTH only if it names a file.
    assert session(look(home, {"ONE_AUTH": str(home)})) == "ana:from-home"
    assert session(look(home, {"ONE_AUTH": str(named)}, user="eve", password="p:w")) == "eve:p:w"


def test_order_of_the_endpoints(home: Path) -> None:
    (home / ".one/one_auth").write_text("ana:x")
    assert look(home).endpoint == DEFAULT_ENDPOINT
    (home.parent / "one/.one/one_endpoint").write_text("http://one/RPC2\n")
    assert look(home).endpoint == "http://one/RPC2"
    (home / ".one/one_endpoint").write_text("http://home/RPC2\n")
    assert look(home).endpoint == "http://home/RPC2"
    assert look(home, {"ONE_XMLRPC": "http://env/RPC2"}).endpoint == "http://env/RPC2"
    assert look(home, {"ONE_XMLRPC": "x"}, endpoint="http://o/RPC2").endpoint == "http://o/RPC2"


@pytest.mark.parametrize("content", ["", "nocolon", ":nobody"])
def test_wrong_content(home: Path, content: str) -> None:
    (home / ".one/one_auth").write_text(content)
    with pytest.raises(ConfigError, match="user:password"):
        look(home)


def test_not_text(home: Path) -> None:
    (home / ".one/one_auth").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text"):
        look(home)


def test_the_password_is_in_no_print(home: Path) -> None:
    (home / ".one/one_auth").write_text("ana:s3cret")
    assert "s3cret" not in repr(look(home))
    assert "s3cret" not in f"{look(home).session}"
