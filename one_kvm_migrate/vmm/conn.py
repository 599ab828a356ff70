"""The border to libvirt: connect, and turn its errors into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from one_kvm_migrate.errors import OkmError


class DriverError(OkmError):
    """The hypervisor refused or failed; the message is the sentence for the user."""


def _silent(_context: object, _error: object) -> None:
    """libvirt prints every error to stderr by itself unless a handler takes it."""


libvirt.registerErrorHandler(_silent, None)


def connect(uri: str) -> "libvirt.virConnect":
    """A read-write connection to *uri*. Raises DriverError."""
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise DriverError(
            f"cannot reach libvirt: {reason(error)} ({uri})",
            hint="Check that libvirtd runs on this host and that this user may use it.",
        ) from error


def reason(error: "libvirt.libvirtError") -> str:
    """libvirt's own words for *error*."""
    return str(error.get_error_message() or error)


@contextmanager
def refusal(sentence: str) -> Iterator[None]:
    """Turn a libvirt error inside the block into a DriverError: *sentence*, colon, reason."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise DriverError(f"{sentence}: {reason(error)}") from error
