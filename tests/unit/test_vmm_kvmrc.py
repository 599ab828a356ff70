"""Settings are read like shell assignments, without a shell."""

from pathlib import Path

import pytest

from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.vmm.kvmrc import Settings, load, parse

KVMRC = """\
# comment with FORCE_DESTROY=no
export LANG=C

export LIBVIRT_URI="qemu+unix:///system?socket=/run/a b"   # trailing
SHUTDOWN_TIMEOUT=20
#FORCE_DESTROY=yes
  CANCEL_NO_ACPI='yes'
export A=1 B=2
EMPTY=
DOLLARS='$5'
if [ -n "$X" ]; then
"""


def test_assignments_are_read_and_nothing_else() -> None:
    values, unusable = parse(KVMRC, "kvmrc")
    assert values == {
        "LANG": "C",
        "LIBVIRT_URI": "qemu+unix:///system?socket=/run/a b",
        "SHUTDOWN_TIMEOUT": "20",
        "CANCEL_NO_ACPI": "yes",
        "A": "1",
        "B": "2",
        "EMPTY": "",
        "DOLLARS": "$5",
    }
    assert unusable == {}


def test_a_command_in_the_file_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    (tmp_path / "kvmrc").write_text(f"touch {trace}\nX=$(touch {trace})\n")
    load(str(tmp_path))
    assert not trace.exists()


@pytest.mark.parametrize("line", ["KEY=${OTHER:-5}", 'KEY="$(hostname)"', "KEY=`id`"])
def test_a_shell_expression_is_refused_when_it_is_asked_for(line: str) -> None:
    settings = Settings(*parse(f"\n{line}\n", "/etc/kvmrc"))
    with pytest.raises(ConfigError, match=r"/etc/kvmrc line 2: KEY is a shell expression"):
        settings.text("KEY")


def test_a_later_plain_value_replaces_an_expression() -> None:
    assert Settings(*parse("KEY=$A\nKEY=3\n", "kvmrc")).text("KEY") == "3"


def test_an_open_quote_names_file_and_line() -> None:
    with pytest.raises(ConfigError, match=r"kvmrc line 2: no closing quotation"):
        parse('A=1\nB="x\n', "kvmrc")


def test_without_a_kvmrc_the_stock_values_count(tmp_path: Path) -> None:
    settings = load(str(tmp_path / "missing"))
    assert settings.text("LIBVIRT_URI") == "qemu:///system"
    assert settings.seconds("SHUTDOWN_TIMEOUT", 120) == 180
    assert settings.flag("FORCE_DESTROY")


def test_with_a_kvmrc_what_it_leaves_out_is_off(tmp_path: Path) -> None:
    (tmp_path / "kvmrc").write_text("LIBVIRT_URI=qemu:///session\n")
    settings = load(str(tmp_path))
    assert not settings.flag("FORCE_DESTROY")
    assert settings.seconds("SHUTDOWN_TIMEOUT", 120) == 120


def test_kvmrc_wins_over_okm_conf(tmp_path: Path) -> None:
    (tmp_path / "kvmrc").write_text("SHUTDOWN_TIMEOUT=7\n")
    (tmp_path / "okm.conf").write_text("SHUTDOWN_TIMEOUT=9\nDOMAIN_TYPE=auto\n")
    settings = load(str(tmp_path))
    assert settings.seconds("SHUTDOWN_TIMEOUT", 120) == 7
    assert settings.text("DOMAIN_TYPE") == "auto"


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf", "nan"])
def test_a_wrong_number_of_seconds_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"T={text} is not a number of seconds"):
        Settings({"T": text}).seconds("T", 1)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "okm.conf").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read settings: .*okm.conf\)"):
        load(str(tmp_path))


def test_the_shipped_okm_conf_changes_nothing() -> None:
    shipped = Path(__file__).parents[2] / "remotes" / "etc" / "vmm" / "kvm" / "okm.conf"
    assert parse(shipped.read_text(), "okm.conf") == ({}, {})
