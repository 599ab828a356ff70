"""The simulator as one thing to start and stop."""

import fcntl
import logging
import os
import shutil
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.sim import config, rpc
from one_kvm_migrate.sim.events import Events
from one_kvm_migrate.sim.jobs import Jobs, Periodic
from one_kvm_migrate.sim.process import Processes
from one_kvm_migrate.sim.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """A hypervisor that a fresh simulator gets.

    ``prefix`` is put before each driver command (to enter a network namespace, say).
    """

    name: str
    libvirt_uri: str | None = None
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """A network on a bridge of the hosts that a simulator gets unless it has one of that name."""

    name: str
    bridge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimConfig:
    """How to run a simulator.

    ``dir`` holds everything it writes; ``port`` 0 takes a free one; ``remotes_source`` is the
    directory whose tree becomes <dir>/var/remotes (None: left as it is). Without a libvirt URI
    hosts never become MONITORED by themselves. ``step`` runs no background work but what the
    test asks for.
    """

    dir: Path
    port: int = 0
    password: str = "opennebula"
    libvirt_uri: str | None = None
    domain_type: str = "auto"
    emulator: str | None = None
    driver_dir: str = "kvm_py"
    vm_mad: str = "kvm"
    remotes_source: Path | None = None
    hosts: tuple[HostConfig, ...] = ()
    networks: tuple[NetworkConfig, ...] = ()
    scheduler: bool = True
    monitor_interval_s: float = 5.0
    vnc_base_port: int = 5900
    workers: int = 6
    step: bool = False


class Sim:
    """One simulator. Use it as a context manager, or call start() and stop()."""

    def __init__(self, settings: SimConfig) -> None:
        from one_kvm_migrate.sim.objects import METHODS
        from one_kvm_migrate.sim.vm import api

        self.config = settings
        self.dir = settings.dir.absolute()
        self.var = self.dir / "var"
        self.methods = rpc.merged(METHODS, api.METHODS)
        self.stopping = threading.Event()
        self._stack = ExitStack()
        self.server: rpc.Server | None = None
        self.store: Store
        self.oned: config.OnedConfig
        self.processes: Processes
        self.jobs: Jobs
        self.events: Events

    @property
    def remotes(self) -> Path:
        """The remotes tree that drivers and hooks are run from."""
        return self.var / "remotes"

    @property
    def endpoint(self) -> str:
        """URL for XML-RPC clients; only while started."""
        if self.server is None:
            raise ConfigError("the simulator is not started")
        return f"http://127.0.0.1:{self.server.port}/RPC2"

    def start(self) -> None:
        """Open the state and answer calls.

        Raises ConfigError when the port is taken; then a directory that was not there is not
        made either.
        """
        from one_kvm_migrate.sim import bootstrap

        with ExitStack() as stack:
            self.server = self._take_place(stack)
            self.store = Store(self.dir / "oned.sqlite")
            stack.callback(self.store.close)
            self.oned = config.OnedConfig(self.var, bootstrap.one_key(self.dir))
            self.oned.set("PORT", str(self.server.port))
            self.processes = Processes()
            self.jobs = Jobs("job", workers=self.config.workers, step=self.config.step)
            self.events = Events(self)
            bootstrap.fill(self)
            self._start_workers(stack)
            self.server.start()
            # Undone in reverse: no more calls, then no more work, then the state is closed.
            stack.callback(self.server.stop)
            bootstrap.resume(self)
            self._stack = stack.pop_all()
        log.info("endpoint=%s dir=%s started", self.endpoint, self.dir)

    def _take_place(self, stack: ExitStack) -> rpc.Server:
        """Get the port and the directory: whatever is there already is asked first."""
        known = self.dir.is_dir()
        if known:
            stack.callback(os.close, self._lock())
        server = self._listen()
        stack.callback(server.stop)
        self._make_dirs()
        if not known:
            stack.callback(os.close, self._lock())
        return server

    def _start_workers(self, stack: ExitStack) -> None:
        from one_kvm_migrate.sim.objects import PERIODIC
        from one_kvm_migrate.sim.vm import api

        for worker in (self.jobs, self.events.jobs):
            worker.start()
            stack.callback(worker.stop)
        if not self.config.step:
            for action in (*PERIODIC, *api.PERIODIC):
                name = f"periodic {action.__module__}"
                interval_s = self.config.monitor_interval_s
                periodic = Periodic(name, partial(action, self), interval_s=interval_s)
                periodic.start()
                stack.callback(periodic.stop)
        # Undone first, so that nobody waits for a program that runs on.
        stack.callback(self.processes.stop)
        stack.callback(self.stopping.set)

    def stop(self) -> None:
        """Stop everything and close the state; a later Sim on the same dir goes on with it."""
        self._stack.close()
        self.server = None

    def settle(self, deadline: Deadline) -> None:
        """Let all background work end: run it here in step mode, else wait for it."""
        if self.config.step:
            while self.jobs.run_next() or self.events.jobs.run_next():
                continue
            return
        self.jobs.wait_idle(deadline)
        self.events.jobs.wait_idle(deadline)

    def _listen(self) -> rpc.Server:
        try:
            return rpc.Server(self, self.config.port)
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on 127.0.0.1 port {self.config.port}: {exc.strerror}",
                hint="Stop what uses the port, or choose another one with --port.",
            ) from exc

    def _lock(self) -> int:
        """Keep others off the directory; the descriptor that holds the lock."""
        try:
            descriptor = os.open(self.dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise self._unusable(exc) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(descriptor, 32).decode().strip() or "unknown"
            os.close(descriptor)
            raise ConfigError(
                f"another simulator (pid {holder}) uses {self.dir}",
                hint="Stop it, or choose another directory with --dir.",
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def _make_dirs(self) -> None:
        try:
            for name in ("datastores/0", "datastores/1", "datastores/2", "vms"):
                (self.var / name).mkdir(parents=True, exist_ok=True)
            if self.config.remotes_source is not None:
                _refresh(self.config.remotes_source, self.remotes)
            (self.remotes / "hooks").mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise self._unusable(exc) from exc

    def _unusable(self, exc: OSError) -> ConfigError:
        return ConfigError(
            f"cannot use {self.dir} for the simulator: {exc.strerror}",
            hint="Choose another directory with --dir.",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _refresh(source: Path, target: Path) -> None:
    """Copy the remotes tree as ``onehost sync`` would; hooks put there by hand stay."""
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_copy_newer)


def _copy_newer(source: str, target: str) -> None:
    if not os.path.exists(target) or os.path.getmtime(source) != os.path.getmtime(target):
        shutil.copy2(source, target)
