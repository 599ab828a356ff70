"""Is anything of a test run left on the machine? ``save FILE`` before it, ``check FILE`` after.

A process is ours when it carries ``OKM_TEST_ROOT`` in its environment or names that directory
on its command line (libvirt starts guests with an empty environment). Mounts, network
namespaces, network interfaces and libvirt domains are compared with what was there before.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded

MARK = "OKM_TEST_ROOT"
SETTLE_S = 5.0
SINGULAR = {
    "processes": "process",
    "mounts": "mount",
    "namespaces": "network namespace",
    "interfaces": "network interface",
    "domains": "libvirt domain",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a run could leave behind, each as sorted readable names."""

    processes: tuple[str, ...]
    mounts: tuple[str, ...]
    namespaces: tuple[str, ...]
    interfaces: tuple[str, ...]
    domains: tuple[str, ...]


def look(root: str) -> Traces:
    """The machine now; ``processes`` are only those that belong to *root*."""
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    return Traces(
        processes=tuple(sorted(_processes(root))),
        mounts=tuple(sorted(line.split()[4] for line in lines)),
        namespaces=_names(Path("/run/netns")),
        interfaces=_names(Path("/sys/class/net")),
        domains=tuple(name for name in _names(Path("/run/libvirt/qemu")) if name.endswith(".xml")),
    )


def new_traces(before: Traces, after: Traces) -> list[str]:
    """One sentence part per thing that is there now and was not before."""
    found = []
    for kind, names in asdict(after).items():
        known = list(getattr(before, kind))
        for name in names:
            if name in known:
                known.remove(name)
            else:
                found.append(f"{SINGULAR[kind]}: {name}")
    return found


def main(argv: list[str], *, settle_s: float = SETTLE_S) -> int:
    """``save FILE`` or ``check FILE``; status 1 when something is left."""
    action, path = argv[0], Path(argv[1])
    root = os.environ[MARK]
    if action == "save":
        path.write_text(json.dumps(asdict(look(root))))
        return 0
    saved = json.loads(path.read_text())
    before = Traces(**{kind: tuple(names) for kind, names in saved.items()})
    left: list[str] = []

    def clean() -> bool:
        left[:] = new_traces(before, look(root))
        return not left

    try:
        wait_until(clean, Deadline(settle_s), what="the machine to be clean")
    except DeadlineExceeded:
        for line in left:
            print(f"left behind: {line}", file=sys.stderr)
        return 1
    print("nothing left behind")
    return 0


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(os.listdir(folder))) if folder.is_dir() else ()


def _processes(root: str) -> list[str]:
    found = []
    skipped = _ancestors(os.getpid())
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) in skipped:
            continue
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue  # it has just ended
        if f"{MARK}={root}".encode() in environment or root.encode() in command:
            found.append(f"{name} {command.decode('utf-8', 'replace')[:200].strip()}")
    return found


def _ancestors(pid: int) -> set[int]:
    chain = set()
    while pid > 0:
        chain.add(pid)
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return chain


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
