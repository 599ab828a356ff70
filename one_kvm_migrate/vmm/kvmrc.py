"""Settings of the driver: the site's ``kvmrc`` and our ``okm.conf``.

Both use the syntax of shell assignments. They are parsed, never run.
"""

import os
import shlex

from one_kvm_migrate.errors import ConfigError

# What OpenNebula's own kvmrc says; it counts only when the site has no such file at all.
STOCK_KVMRC = {
    "LIBVIRT_URI": "qemu:///system",
    "SHUTDOWN_TIMEOUT": "180",
    "FORCE_DESTROY": "yes",
}
STOCK_URI = STOCK_KVMRC["LIBVIRT_URI"]


class Settings:
    """Values by name, kvmrc first, then okm.conf. Unset and empty are the same, as in shell."""

    def __init__(self, values: dict[str, str], unusable: dict[str, str] | None = None) -> None:
        self._values = values
        self._unusable = unusable or {}

    def text(self, key: str, default: str = "") -> str:
        """The value of *key*. ConfigError when it is a shell expression."""
        if key in self._unusable:
            raise ConfigError(self._unusable[key])
        return self._values.get(key) or default

    def flag(self, key: str) -> bool:
        """True when *key* is ``yes``, which is how kvmrc switches things on."""
        return self.text(key).lower() == "yes"

    def seconds(self, key: str, default_s: float) -> float:
        """The value of *key* as a positive number of seconds."""
        text = self.text(key)
        try:
            seconds = float(text) if text else default_s
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 10**7:
            raise ConfigError(
                f"{key}={text} is not a number of seconds",
                hint="Correct it in remotes/etc/vmm/kvm and run onehost sync.",
            )
        return seconds


def load(directory: str) -> Settings:
    """Read ``kvmrc`` and ``okm.conf`` in *directory*; either may be missing.

    Raises ConfigError for a file that cannot be read or has an unclosed quote.
    """
    values: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for name, absent in (("okm.conf", {}), ("kvmrc", STOCK_KVMRC)):
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            values.update(absent)
            continue
        except OSError as error:
            raise ConfigError(f"cannot read settings: {error.strerror} ({path})") from error
        found, refused = parse(text, path)
        values.update(found)
        unusable.update(refused)
    return Settings(values, unusable)


def parse(text: str, where: str) -> tuple[dict[str, str], dict[str, str]]:
    """Assignments of a shell file, and those that only a shell could evaluate.

    The second value maps a name to a sentence with the reason. Lines that are no assignments
    are skipped. Raises ConfigError naming *where* and the line for an unclosed quote.
    """
    values: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ConfigError(f"{where} line {number}: {str(error).lower()}") from error
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key.isidentifier():
                continue
            if _needs_shell(line, value):
                unusable[key] = (
                    f"{where} line {number}: {key} is a shell expression, which is not evaluated; "
                    "write the plain value"
                )
            else:
                values[key] = value
                unusable.pop(key, None)
    return values, unusable


def _needs_shell(line: str, value: str) -> bool:
    return ("$" in value or "`" in value) and f"'{value}'" not in line
