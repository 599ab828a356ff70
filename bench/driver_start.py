"""How long a driver action takes, whole process, beside what a shell script would pay.

Run as root: ``.venv/bin/python bench/driver_start.py [--json] [--check]``. ``cancel`` of an absent
domain is import, connect, look up, leave. Its peer is a shell script that calls virsh three times,
as the stock deploy, cancel and resize do at the least. All lines are measured in turns, round by
round, and the best of each counts; ``--check`` exits 1 when the ratio is above MAX_RATIO.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd

ROOT = Path(__file__).parents[1]
RUNS = 25
OURS, PEER = "cancel_absent_domain", "bash_and_three_virsh"
MAX_RATIO = 1.25
ABSENT = "21e46f09-5fbb-45cb-b2dc-215a1e474a0d"
IMPORT = "import sys; sys.path.append('/usr/lib/python3/dist-packages'); import libvirt"


def once_ms(argv: list[str]) -> float:
    """Duration of one run of *argv*, in milliseconds."""
    begin = time.perf_counter()
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    return (time.perf_counter() - begin) * 1000


def best_ms(lines: dict[str, list[str]]) -> dict[str, float]:
    """Shortest of RUNS interleaved runs of each command, in milliseconds."""
    best = dict.fromkeys(lines, float("inf"))
    for _ in range(RUNS):
        for name, argv in lines.items():
            best[name] = min(best[name], once_ms(argv))
    return {name: round(value, 1) for name, value in best.items()}


def measure() -> dict[str, Any]:
    """The figures, their ratio, and what machine they are of."""
    with tempfile.TemporaryDirectory() as scratch, PrivateLibvirtd(Path(scratch) / "v") as daemon:
        remotes = Path(scratch) / "remotes"
        install = [str(ROOT / "install.sh"), "--dir", str(remotes)]
        subprocess.run(install, check=True, timeout=60, capture_output=True)
        (remotes / "etc/vmm/kvm/kvmrc").write_text(f"LIBVIRT_URI={daemon.uri}\n")
        shell = f"virsh --connect '{daemon.uri}' --readonly dominfo {ABSENT}"
        figures = best_ms(
            {
                OURS: [str(remotes / "vmm/kvm_py/cancel"), ABSENT],
                PEER: ["bash", "-c", f"{shell}; {shell}; {shell}; true"],
                "bash_and_one_virsh": ["bash", "-c", f"{shell}; true"],
                "python_alone": ["/usr/bin/python3", "-IS", "-c", ""],
                "python_and_libvirt": ["/usr/bin/python3", "-IS", "-c", IMPORT],
            }
        )
    facts = {"cpus": os.cpu_count(), "python": platform.python_version(), "runs": RUNS}
    return {
        "best_ms": figures,
        "ratio": round(figures[OURS] / figures[PEER], 2),
        "machine": {**facts, "kernel": platform.release()},
    }


def main() -> int:
    """Measure, print, and check if asked to."""
    parser = argparse.ArgumentParser(description="Start-up time of the KVM driver.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 above {MAX_RATIO}")
    args = parser.parse_args()
    report = measure()
    if args.json:
        print(json.dumps(report))
    else:
        for name, value in report["best_ms"].items():
            print(f"{name:24}{value:8.1f} ms")
        print(f"{'ours / peer':24}{report['ratio']:8.2f}")
    return 1 if args.check and report["ratio"] > MAX_RATIO else 0


if __name__ == "__main__":
    raise SystemExit(main())
