"""How answers of driver scripts are read."""

from pathlib import Path

import pytest

from one_kvm_migrate.sim.process import Processes
from one_kvm_migrate.sim.vm.driver import Request, Result, call


def answer(tmp_path: Path, body: str, **options: object) -> Result:
    """Run a shell script with that *body*."""
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    values = {"argv": ("a b", "7"), "stdin": b"<x/>\n", **options}
    return call(Processes(), Request(script=script, **values))  # type: ignore[arg-type]


def test_success_gives_stdout(tmp_path: Path) -> None:
    result = answer(tmp_path, 'read doc; echo "  $1|$2|$doc  "; echo "WARNING: x" >&2')
    assert (result.ok, result.info) == (True, "a b|7|<x/>")


@pytest.mark.parametrize(("streamed", "expected"), [(True, "no wayat allExitCode: 3"),
                                                   (False, "no wayat all")])  # fmt: skip
def test_failure_joins_the_plain_lines(tmp_path: Path, streamed: bool, expected: str) -> None:
    body = (
        "echo out\n"
        "echo 'INFO: step: begins' >&2; echo '  no way' >&2; echo 'ERROR: 7 bad' >&2\n"
        "echo 'at all  ' >&2; exit 3"
    )
    result = answer(tmp_path, body, streamed=streamed)
    assert (result.ok, result.info) == (False, expected)
    assert "ERROR: 7 bad" in result.log


def test_silent_failure(tmp_path: Path) -> None:
    assert answer(tmp_path, "exit 1", streamed=False).info == "-"
    assert answer(tmp_path, "exit 1").info == "ExitCode: 1"


def test_too_slow_and_missing_are_failures(tmp_path: Path) -> None:
    assert answer(tmp_path, "sleep 60", timeout_s=0.2).info == "Timeout executing script"
    gone = Request(script=tmp_path / "none", argv=(), stdin=b"")
    assert call(Processes(), gone).info == f"the driver has no script {tmp_path / 'none'}"


def test_a_prefix_enters_the_host(tmp_path: Path) -> None:
    result = answer(tmp_path, 'echo "$WHERE $LIBVIRT_URI"', prefix=("env", "WHERE=inside"),
                    env={"LIBVIRT_URI": "test:///x"})  # fmt: skip
    assert result.info == "inside test:///x"
    missing = answer(tmp_path, "true", prefix=("okm-no-such-program",))
    assert not missing.ok and "okm-no-such-program" in missing.info
