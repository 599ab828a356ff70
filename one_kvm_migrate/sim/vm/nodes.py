"""Hosts as drivers see them: how to reach one, and the scripts and settings it has."""

import os
import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import HostConfig, Sim

_lock = threading.Lock()


def host_config(sim: "Sim", name: str) -> "HostConfig":
    """How host *name* is reached; hosts added later are reached like the simulator itself."""
    from one_kvm_migrate.sim.service import HostConfig

    known = next((host for host in sim.config.hosts if host.name == name), None)
    if known is None:
        return HostConfig(name=name, libvirt_uri=sim.config.libvirt_uri)
    if known.libvirt_uri is None and sim.config.libvirt_uri is not None:
        return HostConfig(name=name, libvirt_uri=sim.config.libvirt_uri, prefix=known.prefix)
    return known


def node_tree(sim: "Sim", host: "HostConfig") -> Path:
    """What /var/tmp/one is on a host: its own settings beside the common scripts.

    Made anew where it is missing or out of date; any number of threads may ask at once.
    """
    with _lock:
        return _tree(sim, host)


def _tree(sim: "Sim", host: "HostConfig") -> Path:
    tree = sim.dir / "nodes" / host.name
    settings = tree / "etc" / "vmm" / "kvm"
    settings.mkdir(parents=True, exist_ok=True)
    for kind in ("vmm", "vnm"):
        if not (tree / kind).is_symlink():
            (tree / kind).symlink_to(sim.remotes / kind)
    common = sim.remotes / "etc" / "vmm" / "kvm"
    lines = {"okm.conf": f"DOMAIN_TYPE={sim.config.domain_type}\n", "kvmrc": ""}
    if host.libvirt_uri:
        lines["kvmrc"] = f"LIBVIRT_URI={shlex.quote(host.libvirt_uri)}\n"
    if sim.config.emulator:
        lines["okm.conf"] += f"EMULATOR={shlex.quote(sim.config.emulator)}\n"
    for name, added in lines.items():
        source = common / name
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        _write_if_changed(settings / name, text + added)
    _link_package(sim.remotes / "vmm" / sim.config.driver_dir)
    return tree


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


def _link_package(directory: Path) -> None:
    """The Python driver looks for its package in lib/; here it is ours."""
    package = Path(__file__).parents[2]
    link = directory / "lib" / package.name
    if directory.is_dir() and not link.exists():
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(package)
