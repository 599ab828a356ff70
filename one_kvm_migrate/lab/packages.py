"""Debian packages as building material: fetched and unpacked, never installed.

What the demo guest is made of is gathered once into a *kit* in a cache directory, so that a
second guest needs neither the network nor the hundreds of megabytes of a kernel package.
"""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import EnvironmentMissing, ToolFailed
from one_kvm_migrate.tools.run import run

KERNEL_META = "linux-image-amd64"
AGENT = "qemu-guest-agent"
KERNEL_PATTERN = "linux-image-[0-9]*-amd64_*.deb"

# What a guest may meet under VirtualBox or KVM; dependencies are added by depmod's table.
MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_scsi",
    "virtio_rng",
    "ahci",
    "ata_piix",
    "sd_mod",
    "sr_mod",
    "nvme",
    "mptspi",
    "mptsas",
    "e1000",
    "e1000e",
    "pcnet32",
    "8139cp",
    "8139too",
    "evdev",
    "button",
    "psmouse",
    "uhci-hcd",
    "ehci-pci",
    "xhci-pci",
    "usbhid",
    "ext4",
    "crc32c_generic",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """Unpacked parts of a guest, all below one cache directory.

    ``modules`` holds ``lib/modules/<release>`` with the needed modules and depmod's tables.
    """

    release: str
    kernel: Path
    modules: Path
    agent: Path


def gather(cache_dir: Path, *, deadline: Deadline) -> Kit:
    """The kit in *cache_dir*, made on the first call (about 75 MB over the network).

    Idempotent, and safe when several processes call at once. Raises EnvironmentMissing when
    the packages cannot be fetched, ToolFailed when one cannot be unpacked.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir / ".lock"):
        kit = cache_dir / f"kit-{hashlib.sha256(repr(MODULES).encode()).hexdigest()[:12]}"
        if not kit.is_dir():
            with tempfile.TemporaryDirectory(dir=cache_dir, prefix="unpack.") as scratch:
                built = _build(cache_dir, Path(scratch), deadline)
                built.rename(kit)
        return _describe(kit)


def _describe(kit: Path) -> Kit:
    release = next((kit / "lib/modules").iterdir()).name
    return Kit(
        release=release,
        kernel=kit / "vmlinuz",
        modules=kit / "lib/modules",
        agent=kit / "qemu-ga",
    )


def _build(cache_dir: Path, scratch: Path, deadline: Deadline) -> Path:
    kernel_tree, agent_tree, kit = (scratch / part for part in ("kernel", "agent", "kit"))
    kernel, agent = _fetch_all(cache_dir, deadline)
    for package, tree in ((kernel, kernel_tree), (agent, agent_tree)):
        run(["dpkg-deb", "-x", str(package), str(tree)], deadline=deadline)
        package.unlink()
    release = next((kernel_tree / "lib/modules").iterdir()).name
    kit.mkdir()
    shutil.copy2(kernel_tree / "boot" / f"vmlinuz-{release}", kit / "vmlinuz")
    shutil.copy2(agent_tree / "usr/sbin/qemu-ga", kit / "qemu-ga")
    _copy_modules(kernel_tree, kit, release, deadline)
    return kit


def _copy_modules(tree: Path, kit: Path, release: str, deadline: Deadline) -> None:
    source = tree / "lib/modules" / release
    target = kit / "lib/modules" / release
    run(["depmod", "-b", str(tree), release], deadline=deadline)
    needs = dict(_dependencies(source / "modules.dep"))
    by_name = {Path(path).stem.replace("-", "_"): path for path in needs}
    for name in MODULES:
        path = by_name.get(name.replace("-", "_"))
        if path is None:
            raise EnvironmentMissing(
                f"the Debian kernel {release} has no module {name}",
                hint="Use the plain amd64 flavour of the kernel package.",
            )
        for wanted in (path, *needs[path]):
            copy = target / wanted
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / wanted, copy)
    for table in ("modules.builtin", "modules.order"):
        shutil.copy2(source / table, target / table)
    run(["depmod", "-b", str(kit), release], deadline=deadline)


def _dependencies(table: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in table.read_text("ascii").splitlines():
        path, _, needs = line.partition(":")
        yield path, tuple(needs.split())


def _fetch_all(cache_dir: Path, deadline: Deadline) -> tuple[Path, Path]:
    """The kernel's and the guest agent's package."""

    def attempt() -> tuple[Path, Path]:
        agent = _fetch(cache_dir, AGENT, f"{AGENT}_*.deb", deadline)
        return _fetch_kernel(cache_dir, deadline), agent

    try:
        return attempt()
    except EnvironmentMissing:
        # Package lists that are missing, or older than the mirror, name no file that is there.
        run(["apt-get", "update", "-q"], deadline=deadline, ok=(0, 100))
        return attempt()


def _fetch_kernel(cache_dir: Path, deadline: Deadline) -> Path:
    have = sorted(cache_dir.glob(KERNEL_PATTERN))
    if have:
        return have[-1]
    shown = run(
        ["apt-cache", "depends", "--important", KERNEL_META], deadline=deadline, ok=(0, 100)
    )
    for line in shown.stdout.decode().splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return _fetch(cache_dir, name, KERNEL_PATTERN, deadline)
    raise EnvironmentMissing(
        f"apt does not know the package {KERNEL_META}", hint="Run apt-get update and try again."
    )


def _fetch(cache_dir: Path, name: str, pattern: str, deadline: Deadline) -> Path:
    have = sorted(cache_dir.glob(pattern))
    if have:
        return have[-1]
    # The directory below is ours alone: apt's own sandbox user could not write to it.
    argv = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name]
    try:
        run(argv, deadline=deadline, cwd=str(cache_dir))
    except ToolFailed as exc:
        raise EnvironmentMissing(
            f"apt-get cannot download {name}: {exc.stderr_tail.strip() or 'no message'}",
            hint="Check the network and run apt-get update.",
        ) from exc
    return sorted(cache_dir.glob(pattern))[-1]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
