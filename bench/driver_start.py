"""How long a driver script takes, whole process: best of 25, as JSON with machine facts.

Run as root: ``.venv/bin/python bench/driver_start.py``. ``cancel`` of an absent domain is import,
connect, look up, leave; the other lines are what it is made of and what a shell script pays.
"""

import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd

ROOT = Path(__file__).parents[1]
RUNS = 25
ABSENT = "21e46f09-5fbb-45cb-b2dc-215a1e474a0d"
IMPORT = "import sys; sys.path.append('/usr/lib/python3/dist-packages'); import libvirt"


def best_ms(argv: list[str]) -> float:
    """Shortest of RUNS runs of *argv*, in milliseconds."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        times.append(time.perf_counter() - begin)
    return round(min(times) * 1000, 1)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch, PrivateLibvirtd(Path(scratch) / "v") as daemon:
        remotes = Path(scratch) / "remotes"
        subprocess.run([str(ROOT / "install.sh"), "--dir", str(remotes)], check=True, timeout=60)
        (remotes / "etc/vmm/kvm/kvmrc").write_text(f"LIBVIRT_URI={daemon.uri}\n")
        shell = f"virsh --connect '{daemon.uri}' --readonly dominfo {ABSENT}"
        lines = {
            "cancel_absent_domain": [str(remotes / "vmm/kvm_py/cancel"), ABSENT],
            "python_alone": ["/usr/bin/python3", "-IS", "-c", ""],
            "python_and_libvirt": ["/usr/bin/python3", "-IS", "-c", IMPORT],
            "bash_and_one_virsh": ["bash", "-c", f"{shell}; true"],
            "bash_and_three_virsh": ["bash", "-c", f"{shell}; {shell}; {shell}; true"],
        }
        report = {name: best_ms(argv) for name, argv in lines.items()}
    facts = {"cpus": os.cpu_count(), "python": platform.python_version(), "runs": RUNS}
    print(json.dumps({"best_ms": report, "machine": {**facts, "kernel": platform.release()}}))


if __name__ == "__main__":
    main()
