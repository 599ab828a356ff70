"""A private libvirtd for the demo and the tests, beside whatever the machine has.

The daemon runs in a mount namespace of its own where libvirt's five system directories are
bind mounts of directories below ``root``: it cannot see or touch another libvirt's
domains, and two of them live side by side. QEMU processes stay in that namespace, which is
also how they are found again: everything that runs inside is ours, nothing else is. When
the last of them ends, the kernel drops namespace and mounts.
"""

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import which
from types import TracebackType
from urllib.parse import quote

import libvirt

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded, EnvironmentMissing, ToolFailed, UsageError

# Fewer make libvirt 9.0 fail on machines that mount both kinds of control groups.
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "blkio")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
SOCKET_PATH_LIMIT = 107

SYSTEM_DIRECTORIES = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
# libvirt locks the terminals of serial consoles here. Minimal containers have only the symbolic
# link /var/lock, without the /run/lock that it points to.
LOCK_DIRECTORY = Path("/var/lock")

LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0777"
host_uuid = "{host_uuid}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

# No virtlogd (stdio_handler), no labels, no per-domain namespaces: nothing that a container lacks.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
stdio_handler = "file"
cgroup_controllers = [{controllers}]
"""

# $1 is the directory that holds etc, run, lib, log, cache; the other words are the daemon's argv.
ENTER_NAMESPACE = """
root=$1; shift
mount --bind "$root/etc" /etc/libvirt
mount --bind "$root/run" /run/libvirt
mount --bind "$root/lib" /var/lib/libvirt
mount --bind "$root/log" /var/log/libvirt
mount --bind "$root/cache" /var/cache/libvirt
exec "$@"
"""


class PrivateLibvirtd:
    """One libvirtd with all its state below *root*. Needs root rights.

    Use it as a context manager, or call ``start`` and ``stop``. Both may be called again:
    ``start`` first ends what an earlier, killed owner of the same *root* left running.
    ``cgroups`` lets it use control groups, so that CPU shares can be read and set; leave it
    off when several run at once, since libvirt names control groups by domain number and name.
    """

    def __init__(self, root: Path, *, cgroups: bool = False) -> None:
        self.root = root.resolve()
        self.socket = self.root / "run" / "libvirt-sock"
        self.uri = f"qemu:///system?socket={quote(str(self.socket))}"
        self._cgroups = cgroups
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PrivateLibvirtd":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon and return when it answers.

        Raises EnvironmentMissing (not root, libvirt not installed), UsageError (*root* too long
        for a socket path), ToolFailed (the daemon ended) or DeadlineExceeded.
        """
        daemon = _require("libvirtd")
        unshare = _require("unshare")
        if os.geteuid() != 0:
            raise EnvironmentMissing(
                "a private libvirtd needs root rights", hint="Run the command with sudo."
            )
        if len(os.fsencode(self.socket)) > SOCKET_PATH_LIMIT:
            raise UsageError(f"{self.socket} is too long for a socket", hint="Use a shorter path.")
        self.stop()
        self._write_configuration()
        ensure_lock_directory(LOCK_DIRECTORY)
        argv = [unshare, "--mount", "--propagation", "slave", "--", "sh", "-euc", ENTER_NAMESPACE]
        argv += ["sh", str(self.root), daemon, "--config", "/etc/libvirt/libvirtd.conf"]
        argv += ["--pid-file", "/run/libvirt/libvirtd.pid"]
        with (self.root / "log" / "output").open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                # A Ctrl-C meant for the demo must not end the daemon before the demo tidies up.
                start_new_session=True,
            )
        with ExitStack() as stack:
            stack.callback(self.stop)
            deadline = Deadline(START_TIMEOUT_S)
            wait_until(self._answers, deadline, what=f"libvirtd at {self.socket}", interval_s=0.05)
            stack.pop_all()

    def stop(self) -> None:
        """End all domains, then the daemon. Does nothing when nothing runs."""
        daemons = set(self._daemons())
        guests = [pid for pid in self._members() if pid not in daemons]
        _end(guests, self._lives_here)
        _end(sorted(daemons), self._lives_here)
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None
        if self._cgroups:
            _remove_empty_cgroups()

    def _answers(self) -> bool:
        assert self._process is not None
        rc = self._process.poll()
        if rc is not None:
            raise ToolFailed(["libvirtd"], rc, self._log_tail())
        if not self.socket.exists():
            return False
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def _log_tail(self) -> str:
        logs = (self.root / "log" / name for name in ("libvirtd.log", "output"))
        return "".join(p.read_text("utf-8", "replace")[-4096:] for p in logs if p.exists())

    def _write_configuration(self) -> None:
        for name, system_path in SYSTEM_DIRECTORIES.items():
            (self.root / name).mkdir(parents=True, exist_ok=True)
            # The mount point must exist, also where libvirt never ran.
            Path(system_path).mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        (self.root / "log" / "libvirtd.log").unlink(missing_ok=True)
        etc = self.root / "etc"
        (etc / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(host_uuid=uuid.uuid4()))
        controllers = ", ".join(f'"{name}"' for name in CONTROLLERS) if self._cgroups else ""
        (etc / "qemu.conf").write_text(QEMU_CONF.format(controllers=controllers))

    def _lives_here(self, pid: int) -> bool:
        try:
            return os.path.samefile(f"/proc/{pid}/root/run/libvirt", self.root / "run")
        except OSError:
            return False

    def _members(self) -> Iterator[int]:
        for name in os.listdir("/proc"):
            if name.isdecimal() and self._lives_here(int(name)):
                yield int(name)

    def _daemons(self) -> Iterator[int]:
        for pid in self._members():
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            if name == "libvirtd":
                yield pid


def ensure_lock_directory(path: Path) -> None:
    """Make *path*, or what it points to, as Debian makes it at boot; one that is there stays."""
    target = path.resolve()
    if not target.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(0o1777)


def _require(program: str) -> str:
    path = which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise EnvironmentMissing(
            f"the program {program} is not installed",
            hint="Install the packages libvirt-daemon-system, qemu-system-x86 and util-linux.",
        )
    return path


def _end(pids: list[int], is_ours: Callable[[int], bool]) -> None:
    """Terminate *pids*, kill those that stay; a pid that no longer is ours is left alone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(is_ours, pids):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        try:
            wait_until(
                lambda: not any(map(is_ours, pids)),
                Deadline(STOP_TIMEOUT_S / 2),
                what=f"processes {pids} to end",
                interval_s=0.05,
            )
            return
        except DeadlineExceeded:
            if number == signal.SIGKILL:
                raise


def _remove_empty_cgroups() -> None:
    for machine in Path("/sys/fs/cgroup").glob("**/machine"):
        try:
            machine.rmdir()
        except OSError:
            continue  # someone else's guests are in there
