"""``one-kvm-migrate sim``: the embedded OpenNebula in the foreground, until a signal."""

import argparse
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from one_kvm_migrate.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import SimConfig

DEFAULT_PORT = 2633
DEFAULT_PASSWORD = "opennebula"
ONED_EMULATOR = "/usr/bin/qemu-kvm-one"
REMOTES = Path(__file__).resolve().parents[2] / "remotes"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``sim``."""
    add = parser.add_argument
    add("--dir", type=Path, required=True, help="directory for state, images and machines")
    add("--port", type=int, default=DEFAULT_PORT, help="XML-RPC port on 127.0.0.1; 0: a free one")
    add("--password", help=f"password of oneadmin; at first start (default {DEFAULT_PASSWORD})")
    add("--libvirt-uri", help="libvirt of the host; without it, machines cannot be started")
    add("--host", default="localhost", help="name of the host (default localhost)")
    add("--domain-type", choices=("kvm", "qemu", "auto"), default="auto")
    add("--emulator", metavar="PATH", help="qemu binary (qemu-kvm-one, else qemu-system-x86_64)")
    add("--remotes", type=Path, help="driver scripts (default: those of this project)")
    add("--ready-file", type=Path, help="written as JSON {endpoint, pid} once calls are answered")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; raises ConfigError when the port or directory is no good."""
    from one_kvm_migrate.sim.service import Sim

    if not 0 <= args.port <= 65535:
        raise UsageError(f"{args.port} is not a port number", hint="Use 0 to 65535.")
    settings = _settings(args)
    stop = threading.Event()
    with _on_signal(stop), Sim(settings) as sim:
        _write_private(args.dir / "one_auth", f"oneadmin:{settings.password}\n")
        if args.ready_file is not None:
            ready = json.dumps({"endpoint": sim.endpoint, "pid": os.getpid()})
            _write_private(args.ready_file, ready + "\n")
        print(sim.endpoint, flush=True)
        stop.wait()
    if args.ready_file is not None:
        args.ready_file.unlink(missing_ok=True)
    return 0


def _settings(args: argparse.Namespace) -> "SimConfig":
    from one_kvm_migrate.sim.service import HostConfig, SimConfig

    remotes = args.remotes or (REMOTES if REMOTES.is_dir() else None)
    if remotes is not None and not remotes.is_dir():
        raise ConfigError(f"{remotes} is not a directory", hint="Give another --remotes.")
    return SimConfig(
        dir=args.dir,
        port=args.port,
        password=_password(args.dir, args.password),
        libvirt_uri=args.libvirt_uri,
        domain_type=args.domain_type,
        emulator=args.emulator or _emulator(),
        remotes_source=remotes,
        hosts=(HostConfig(name=args.host),) if args.libvirt_uri else (),
    )


def _password(directory: Path, given: str | None) -> str:
    """The password to use: a state made earlier keeps its own."""
    auth = directory / "one_auth"
    known = auth.read_text("utf-8").strip().partition(":")[2] if auth.is_file() else None
    if known is not None and given is not None and known != given:
        raise ConfigError(
            f"the state in {directory} was made with another password",
            hint="Leave --password away, or choose another --dir.",
        )
    return known or given or DEFAULT_PASSWORD


def _write_private(path: Path, text: str) -> None:
    """Write *path* for the owner only, never half."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        partial.replace(path)
    except OSError as exc:
        raise ConfigError(
            f"cannot write {path}: {exc.strerror}", hint="Choose another place for it."
        ) from exc


@contextmanager
def _on_signal(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set *stop* instead of ending the program half-way."""

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    old = {number: signal.signal(number, set_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _emulator() -> str | None:
    """None leaves oned's default, a link that only OpenNebula's node package makes."""
    from shutil import which

    return None if which(ONED_EMULATOR) else which("qemu-system-x86_64")
