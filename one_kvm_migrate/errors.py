"""Every error the package raises on purpose, with its exit status.

::

    OkmError                      1   (never raised itself)
    +-- UsageError                2
    +-- ConfigError               3
    +-- EnvironmentMissing        4   a tool or library is not installed
    +-- SourceError              10   the machine or disk cannot be read
    |   +-- SourceUnsupported    11
    |   +-- SourceCorrupt        12
    |   +-- SourceUnsafe         13   it reaches outside itself
    |   +-- SourceChanged        14   it changed since it was planned
    +-- NoSpace                  20
    +-- ConvertFailed            21
    +-- ContentMismatch          22
    +-- OpenNebulaError          30
    |   +-- AuthError            31
    |   +-- Unreachable          32
    |   +-- Rejected             33
    |   +-- QuotaExceeded        34
    |   +-- StateUnexpected      35
    +-- VerifyError              50   boot time-out included
    |   +-- VncFailed            51
    |   +-- GuestPanic           52
    +-- JournalError             60
    |   +-- RunLocked            61
    |   +-- PlanChanged          62
    +-- ToolFailed               70
    +-- DeadlineExceeded         71
    Cancelled                   130   a BaseException of its own

A message is one sentence: what happened, and where. ``hint`` says what to do about it.
42 and 255 are never used: oned takes 42 for "script missing" and ssh uses 255 for itself.
Standard library only, and light: the host driver imports this module in every action.
"""

from typing import ClassVar

from one_kvm_migrate.units import human_bytes


class _Told(BaseException):
    """What can be told to people in one sentence."""

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def sentence(self) -> str:
        """Message and hint on one line, as shown to people; a full stop only between the two."""
        text = " ".join(self.message.split()).rstrip(".")
        hint = " ".join(self.hint.split())
        return f"{text}. {hint}" if hint else text


class OkmError(_Told, Exception):
    """Base of all errors. ``str()`` is one sentence, without the hint."""


class Cancelled(_Told):
    """Stopped by a signal. No Exception, so that nothing that goes on after errors takes it."""

    exit_code = 130


class UsageError(OkmError):
    """The command line asks for something impossible."""

    exit_code = 2


class ConfigError(OkmError):
    """A configuration or credential file is missing or wrong."""

    exit_code = 3


class EnvironmentMissing(OkmError):
    """A program or library that the job needs is not installed."""

    exit_code = 4


class SourceError(OkmError):
    """The source machine or disk is missing or cannot be read."""

    exit_code = 10


class SourceUnsupported(SourceError):
    """The source is valid but of a kind this version cannot move."""

    exit_code = 11


class SourceCorrupt(SourceError):
    """The source is damaged or truncated."""

    exit_code = 12


class SourceUnsafe(SourceError):
    """The source points at files that are not part of the machine."""

    exit_code = 13


class SourceChanged(SourceError):
    """The source is not what the plan was made for."""

    exit_code = 14


class NoSpace(OkmError):
    """The target file system has not enough room.

    ``needed_bytes`` and ``free_bytes`` are what was compared.
    """

    exit_code = 20
    retryable = True

    def __init__(self, where: str, *, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"not enough space in {where}: {human_bytes(needed_bytes)} needed, "
            f"{human_bytes(free_bytes)} free",
            hint=f"Free {human_bytes(needed_bytes - free_bytes)} there or choose another place.",
        )
        self.where = where
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class ConvertFailed(OkmError):
    """The conversion tool gave up."""

    exit_code = 21
    retryable = True


class ContentMismatch(OkmError):
    """The written image does not hold what the source holds."""

    exit_code = 22


class OpenNebulaError(OkmError):
    """OpenNebula answered with an error. ``code`` is oned's own error code, 0 if none."""

    exit_code = 30

    def __init__(self, message: str, *, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class AuthError(OpenNebulaError):
    """User name or password refused, or the user may not do this."""

    exit_code = 31


class Unreachable(OpenNebulaError):
    """No OpenNebula answers at the endpoint."""

    exit_code = 32
    retryable = True


class Rejected(OpenNebulaError):
    """OpenNebula refused the request; also: a name is taken, an object does not exist."""

    exit_code = 33


class QuotaExceeded(OpenNebulaError):
    """A quota of the user or group is used up."""

    exit_code = 34


class StateUnexpected(OpenNebulaError):
    """An object is in a state the request does not allow."""

    exit_code = 35


class VerifyError(OkmError):
    """The migrated machine could not be proven to work (boot time-out included)."""

    exit_code = 50


class VncFailed(VerifyError):
    """The machine runs but its VNC console does not answer."""

    exit_code = 51


class GuestPanic(VerifyError):
    """The guest kernel crashed while booting."""

    exit_code = 52


class JournalError(OkmError):
    """The run journal cannot be used, or has no such run."""

    exit_code = 60


class RunLocked(JournalError):
    """Another process works on the same run."""

    exit_code = 61
    retryable = True


class PlanChanged(JournalError):
    """The plan made now differs from the one in the journal."""

    exit_code = 62


class ToolFailed(OkmError):
    """An external program ended badly. ``argv``, ``rc`` and ``stderr_tail`` are kept."""

    exit_code = 70

    def __init__(self, argv: list[str], rc: int, stderr_tail: str) -> None:
        why = stderr_tail.strip().splitlines()[-1] if stderr_tail.strip() else "no message"
        super().__init__(f"{argv[0]} failed with status {rc}: {why}")
        self.argv = argv
        self.rc = rc
        self.stderr_tail = stderr_tail


class DeadlineExceeded(OkmError):
    """Something did not happen in time."""

    exit_code = 71
    retryable = True
