"""External programs of the simulator, so that stopping it ends what still runs."""

import subprocess
import threading
from collections.abc import Mapping, Sequence

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import Cancelled
from one_kvm_migrate.tools.run import Outcome, kill_group, run

ANY_STATUS = range(-64, 256)


class Processes:
    """Runs programs through tools.run and remembers those that have not ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def run(
        self,
        argv: Sequence[str],
        *,
        deadline: Deadline,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Outcome:
        """Run *argv* to its end; every exit status is data (negative: killed by that signal).

        Raises EnvironmentMissing, DeadlineExceeded, and Cancelled once the simulator stops.
        """
        started: list[subprocess.Popen[bytes]] = []

        def remember(process: "subprocess.Popen[bytes]") -> None:
            with self._lock:
                if self._closed:
                    raise Cancelled("the simulator is stopping")
                self._running.add(process)
            started.append(process)

        try:
            outcome = run(
                argv,
                deadline=deadline,
                ok=ANY_STATUS,
                stdin=stdin,
                env=env,
                cwd=cwd,
                on_start=remember,
            )
        finally:
            with self._lock:
                self._running.difference_update(started)
        if self._closed:
            raise Cancelled("the simulator is stopping")
        return outcome

    def stop(self) -> None:
        """End everything that runs and refuse new programs. Idempotent."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            kill_group(process)
