"""Exit statuses are an interface: unique, as drawn, and never 42 or 255."""

import inspect
import re

from one_kvm_migrate import errors
from one_kvm_migrate.errors import Cancelled, NoSpace, OkmError, SourceError, ToolFailed


def classes() -> dict[str, type[OkmError | Cancelled]]:
    return {
        name: item
        for name, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, OkmError | Cancelled)
    }


def test_nothing_that_goes_on_after_errors_takes_a_cancellation() -> None:
    assert not issubclass(Cancelled, Exception)


def test_the_tree_in_the_docstring_is_true() -> None:
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"(\w+) +(\d+)\b", errors.__doc__.split("A message")[0]))
    assert {name: str(item.exit_code) for name, item in classes().items()} == drawn


def test_codes_are_unique_and_usable() -> None:
    codes = [item.exit_code for item in classes().values()]
    assert len(set(codes)) == len(codes)
    assert not {0, 42, 255} & set(codes)


def test_a_sentence_is_one_line_with_its_hint() -> None:
    exc = SourceError("cannot read\n /x/y", hint="Check the path.")
    assert exc.sentence() == "cannot read /x/y. Check the path."


def test_no_space_says_how_much_is_missing() -> None:
    exc = NoSpace("/ds", needed_bytes=3 << 30, free_bytes=1 << 30)
    assert "3.0 GiB needed, 1.0 GiB free" in exc.sentence() and "Free 2.0 GiB" in exc.sentence()
    assert exc.retryable


def test_tool_failed_quotes_the_last_line() -> None:
    assert str(ToolFailed(["qemu-img"], 1, "a\nb\n")) == "qemu-img failed with status 1: b"
    assert "no message" in str(ToolFailed(["qemu-img"], 1, ""))
