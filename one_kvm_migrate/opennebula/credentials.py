"""Where user, password and endpoint come from: the same places, in the same order, as onevm.

Source: src/oca/ruby/opennebula/lib/client.rb and src/cli of OpenNebula (contract §12).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.secret import Secret

ONEADMIN_HOME = Path("/var/lib/one")
DEFAULT_ENDPOINT = "http://localhost:2633/RPC2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Endpoint URL, and the session string ``user:password`` kept out of every print."""

    endpoint: str
    user: str
    session: Secret


def find(
    *,
    user: str | None = None,
    password: Secret | None = None,
    endpoint: str | None = None,
    environ: Mapping[str, str] = os.environ,
    home: Path | None = None,
    oneadmin_home: Path = ONEADMIN_HOME,
) -> Credentials:
    """Credentials by options, environment and files.

    Raises ConfigError when there is no credentials file or its content is not user:password.
    """
    base = home if home is not None else Path.home()
    if user is not None and password is not None:
        session = f"{user}:{password.reveal()}"
    else:
        session = _session_from_files(environ, base, oneadmin_home)
    name, colon, _ = session.partition(":")
    if not name or not colon:
        raise ConfigError(
            "the OpenNebula credentials are not of the form user:password",
            hint="Write one line user:password to ~/.one/one_auth.",
        )
    return Credentials(
        endpoint=endpoint or _endpoint(environ, base, oneadmin_home),
        user=name,
        session=Secret(session),
    )


def _session_from_files(environ: Mapping[str, str], home: Path, oneadmin_home: Path) -> str:
    named = environ.get("ONE_AUTH")
    candidates = [Path(named)] if named and Path(named).is_file() else []
    candidates += [home / ".one/one_auth", oneadmin_home / ".one/one_auth"]
    for path in candidates:
        text = _read(path)
        if text is not None:
            return text
    asked = f"ONE_AUTH={named} is no file, " if named else "ONE_AUTH is not set, "
    raise ConfigError(
        f"no OpenNebula credentials: {asked}"
        f"{home}/.one/one_auth and {oneadmin_home}/.one/one_auth are missing",
        hint="Write one line user:password to ~/.one/one_auth or set ONE_AUTH to such a file.",
    )


def _endpoint(environ: Mapping[str, str], home: Path, oneadmin_home: Path) -> str:
    named = environ.get("ONE_XMLRPC")
    if named:
        return named
    for path in (home / ".one/one_endpoint", oneadmin_home / ".one/one_endpoint"):
        text = _read(path)
        if text:
            return text
    return DEFAULT_ENDPOINT


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None
    except PermissionError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}", hint="Check its owner.") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not text", hint="It holds one line user:password.") from exc
