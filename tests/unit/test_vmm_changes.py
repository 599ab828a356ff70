"""Changes that belong together: all, or none."""

import io

import pytest

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import DeadlineExceeded, OkmError
from one_kvm_migrate.vmm.actions.resize import Change, apply_all
from one_kvm_migrate.vmm.call import CallDeadline
from one_kvm_migrate.vmm.conn import DriverError
from one_kvm_migrate.vmm.log import Log


class Step:
    """A change that notes what happens to it and fails where told."""

    def __init__(self, name: str, notes: list[str], **failures: OkmError) -> None:
        self._name = name
        self._notes = notes
        self._failures = failures

    def check(self) -> None:
        self._note("check")

    def apply(self, deadline: Deadline) -> None:
        self._note("apply")

    def undo(self, deadline: Deadline) -> None:
        assert not deadline.passed(), "an undo has time of its own"
        self._note("undo")

    def _note(self, what: str) -> None:
        self._notes.append(f"{what} {self._name}")
        if what in self._failures:
            raise self._failures[what]


def late() -> CallDeadline:
    deadline = CallDeadline(60)
    deadline.stop()
    return deadline


def test_a_stopped_deadline_has_passed() -> None:
    assert late().passed()
    assert not CallDeadline(60).passed()


def test_all_are_applied_in_order() -> None:
    notes: list[str] = []
    stream = io.StringIO()
    changes: list[Change] = [Step("a", notes), Step("b", notes)]
    apply_all(changes, late(), Log("resize", stream))
    assert notes == ["apply a", "apply b"]
    assert stream.getvalue() == ""


@pytest.mark.parametrize("error", [DriverError("b is full"), DeadlineExceeded("b is slow")])
def test_a_failure_undoes_itself_and_those_before(error: OkmError) -> None:
    notes: list[str] = []
    stream = io.StringIO()
    changes: list[Change] = [Step("a", notes), Step("b", notes, apply=error), Step("c", notes)]
    with pytest.raises(type(error), match=str(error)):
        apply_all(changes, late(), Log("resize", stream))
    assert notes == ["apply a", "apply b", "undo b", "undo a"]
    assert stream.getvalue() == "INFO: resize: everything is back to the former shape\n"


def test_a_failed_undo_is_told_and_the_rest_still_undone() -> None:
    notes: list[str] = []
    first = Step("a", notes)
    second = Step("b", notes, apply=DriverError("b is full"), undo=DriverError("b is stuck"))
    with pytest.raises(DriverError, match="b is full; putting back failed: b is stuck"):
        apply_all([first, second], late(), Log("resize", io.StringIO()))
    assert notes == ["apply a", "apply b", "undo b", "undo a"]


def test_a_log_line_is_one_line_and_a_closed_pipe_is_no_error() -> None:
    stream = io.StringIO()
    Log("deploy", stream).error("first\n  second")
    assert stream.getvalue() == "ERROR: deploy: first second\n"
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115 - closing it must fail, see below
    Log("deploy", full).info("nobody listens")
    with pytest.raises(OSError, match="No space"):
        full.close()
