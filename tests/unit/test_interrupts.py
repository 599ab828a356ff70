"""Stop signals become Cancelled, at a moment that loses no child."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from one_kvm_migrate.errors import Cancelled
from one_kvm_migrate.tools import interrupts
interrupts.install()
number = int(sys.argv[1])
try:
    with interrupts.shielded():
        with interrupts.shielded():
            os.kill(os.getpid(), number)
        print("still here", flush=True)
    print("not reached")
except Cancelled as exc:
    print(exc)
    os.kill(os.getpid(), signal.SIGTERM)
    print("tidied up")
"""


@pytest.mark.parametrize(("number", "how"), [(15, "signal 15"), (1, "signal 1"), (2, "Ctrl-C")])
def test_a_signal_waits_for_the_end_of_the_block(number: int, how: str) -> None:
    argv = ["env", "--default-signal=INT,HUP,TERM", sys.executable, "-c", SCRIPT, str(number)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == f"still here\nstopped by {how}\ntidied up\n"


def test_nohup_is_respected() -> None:
    code = (
        "import os\nfrom one_kvm_migrate.tools import interrupts\ninterrupts.install()\n"
        "os.kill(os.getpid(), 1)\nprint('alive')"
    )
    argv = ["nohup", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    assert "alive" in done.stdout
