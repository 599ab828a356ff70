"""The shell scripts in bin/: refusals in one sentence, and nothing to do twice."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("bin/setup", "bin/test", "bin/demo", ".ci/run")
NOBODY = "65534"


def run(*argv: str, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PATH": str(path)} if path else dict(os.environ)
    return subprocess.run(
        argv, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def tools(folder: Path, *names: str) -> Path:
    """A directory with these programs and no others, to be the whole PATH."""
    folder.mkdir()
    for name in ("bash", "dirname", "readlink", "id", *names):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    folder.chmod(0o755)
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_syntax_and_mode(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert run("bash", "-n", str(path)).returncode == 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("bin/demo", ("--dir DIR", "Debian 12", "Takes:", "Leaves:", "emulated")),
        ("bin/test", ("goes to pytest", "Debian 12")),
    ],
)
@pytest.mark.parametrize("argv", [("--help",), ("-h",), ("-x", "--help")], ids=" ".join)
def test_help_does_nothing_else(
    script: str, words: tuple[str, ...], argv: tuple[str, ...], tmp_path: Path
) -> None:
    # This PATH has none of the programs that set-up and the work itself begin with.
    shown = run(str(ROOT / script), *argv, path=tools(tmp_path / "bin", "cat"))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(word in shown.stdout for word in words)


def test_setup_has_nothing_to_do_the_second_time() -> None:
    assert run(str(ROOT / "bin/setup")).returncode == 0
    started = time.monotonic()
    again = run(str(ROOT / "bin/setup"))
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert time.monotonic() - started < 2


def test_another_distribution_is_refused(tmp_path: Path) -> None:
    refused = run(str(ROOT / "bin/setup"), path=tools(tmp_path / "bin"))
    assert refused.returncode == 4
    assert refused.stderr.startswith("bin/setup: error: this is not a Debian system. Use Debian 12")
    assert refused.stderr.count("\n") == 1


def test_without_root_rights_or_sudo_it_is_refused() -> None:
    # Neither pytest's directories nor the checkout need be readable for others.
    with tempfile.TemporaryDirectory(prefix="okm-open.", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        script = folder / "setup"
        shutil.copy(ROOT / "bin/setup", script)
        path = tools(folder / "bin", "setpriv")
        argv = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
        refused = run(*argv, str(script), path=path)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert refused.stderr == (
        "bin/setup: error: this needs root rights and sudo is not installed. Run it as root.\n"
    )
