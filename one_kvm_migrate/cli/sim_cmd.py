"""``one-kvm-migrate sim``: the embedded OpenNebula in the foreground, until a signal."""

import argparse
import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from one_kvm_migrate.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import NetworkConfig, Sim, SimConfig

DEFAULT_PORT = 2633
DEFAULT_PASSWORD = "opennebula"
ONED_EMULATOR = "/usr/bin/qemu-kvm-one"
REMOTES = Path(__file__).resolve().parents[2] / "remotes"
DRIVER = Path("vmm", "kvm_py", "deploy")
# What the kernel takes as the name of an interface.
BRIDGE = re.compile(r"(?!\.{1,2}$)[^\s/:=]{1,15}")
SHOWN = (("datastores", "datastore"), ("hosts", "host"), ("networks", "vnet"))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``sim``."""
    add = parser.add_argument
    add("--dir", type=Path, required=True, help="directory for state, images and machines")
    port_help = f"XML-RPC port on 127.0.0.1; 0: a free one (default {DEFAULT_PORT})"
    add("--port", type=int, default=DEFAULT_PORT, help=port_help)
    add("--password", help=f"password of oneadmin; at first start (default {DEFAULT_PASSWORD})")
    add("--libvirt-uri", help="libvirt of the host; without it, machines cannot be started")
    add("--host", default="localhost", help="name of the host (default localhost)")
    add(
        "--network",
        action="append",
        default=[],
        metavar="NAME=BRIDGE",
        help="have a network NAME with 200 addresses on this bridge of the host (repeatable)",
    )
    add(
        "--domain-type",
        choices=("kvm", "qemu", "auto"),
        default="auto",
        help="what machines become: kvm, qemu (emulated, slow), or auto: kvm where it works, "
        "else qemu (default auto)",
    )
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
        print("\n".join(_greeting(sim)), file=sys.stderr, flush=True)
        stop.wait()
    if args.ready_file is not None:
        args.ready_file.unlink(missing_ok=True)
    return 0


def _greeting(sim: "Sim") -> list[str]:
    """What to type to be its administrator, and what is there."""
    from one_kvm_migrate.cli.output import printable

    auth = shlex.quote(str(sim.dir / "one_auth"))
    lines = [f"export ONE_XMLRPC={sim.endpoint} ONE_AUTH={auth}"]
    for label, kind in SHOWN:
        names = [printable(item.name) for item in reversed(sim.store.all(kind))]
        lines.append(f"{label}: {', '.join(names) or 'none'}")
    return lines


def _settings(args: argparse.Namespace) -> "SimConfig":
    from one_kvm_migrate.sim.service import HostConfig, SimConfig

    remotes = _remotes(args)
    return SimConfig(
        dir=args.dir,
        port=args.port,
        password=_password(args.dir, args.password),
        libvirt_uri=args.libvirt_uri,
        domain_type=args.domain_type,
        emulator=args.emulator or _emulator(),
        remotes_source=remotes,
        hosts=(HostConfig(name=args.host),) if args.libvirt_uri else (),
        networks=_networks(args.network),
    )


def _remotes(args: argparse.Namespace) -> Path | None:
    """The tree to copy; an installed package comes without one. Raises ConfigError."""
    tree: Path | None = args.remotes or (REMOTES if REMOTES.is_dir() else None)
    if tree is not None and not tree.is_dir():
        raise ConfigError(f"{tree} is not a directory", hint="Give another --remotes.")
    places = (tree, args.dir / "var" / "remotes")
    if args.libvirt_uri and not any(place and (place / DRIVER).is_file() for place in places):
        raise ConfigError(
            f"machines cannot be started through {args.libvirt_uri}: "
            f"the driver scripts are not here{f', in {tree}' if tree else ''}",
            hint="Give --remotes CHECKOUT/remotes.",
        )
    return tree


def _networks(given: list[str]) -> "tuple[NetworkConfig, ...]":
    from one_kvm_migrate.sim.service import NetworkConfig

    networks = []
    for text in given:
        name, _, bridge = text.rpartition("=")
        if not (name and name.isprintable()) or not BRIDGE.fullmatch(bridge):
            raise UsageError(
                f"--network {text} is not NAME=BRIDGE",
                hint="Give a name and a bridge of at most 15 characters, as in lab=br0.",
            )
        networks.append(NetworkConfig(name=name, bridge=bridge))
    return tuple(networks)


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
