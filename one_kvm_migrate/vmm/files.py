"""Writing files on the host so that a crash leaves the old one or the new one, never half."""

import os

from one_kvm_migrate.errors import ConfigError, OkmError

PARTIAL = ".partial"


def write(path: str, content: bytes) -> None:
    """Put *content* into *path*, making its directory. Raises OkmError."""
    partial = path + PARTIAL
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except OSError as error:
        discard(partial)
        raise OkmError(f"cannot write: {error.strerror} ({path})") from error


def copy_once(source: str, path: str) -> bool:
    """Copy *source* to *path* unless that exists. True when it was copied. Raises ConfigError."""
    import shutil

    if os.path.exists(path):
        return False
    partial = path + PARTIAL
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, path)
    except OSError as error:
        discard(partial)
        raise ConfigError(
            f"cannot copy the UEFI variables: {error.strerror} ({source} to {path})",
            hint="Set OVMF_NVRAM in kvmrc to the firmware's empty variable store.",
        ) from error
    return True


def discard(path: str) -> None:
    """Remove *path* if it is there and can be removed."""
    try:
        os.unlink(path)
    except OSError:
        return
