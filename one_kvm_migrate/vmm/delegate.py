"""Hand an action over to OpenNebula's own script beside ours."""

import os
from typing import NoReturn

from one_kvm_migrate.errors import EnvironmentMissing


def stock_script(here: str, action: str) -> str:
    """Path of the stock script for *action*; *here* is the directory of our entry script."""
    return os.path.join(os.path.dirname(here), "kvm", action)


def hand_over(here: str, action: str, argv: tuple[str, ...]) -> NoReturn:
    """Become the stock script, with the same arguments, stdin and environment.

    Raises EnvironmentMissing when it is not installed.
    """
    script = stock_script(here, action)
    if not os.access(script, os.X_OK):
        raise EnvironmentMissing(
            f"this driver leaves {action} to OpenNebula's own script, and {script} is missing",
            hint="Install the opennebula package's remotes and run onehost sync.",
        )
    os.execv(script, [script, *argv])
