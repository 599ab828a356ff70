"""Device names, boot order, context variables: the pure parts of a machine's description."""

import subprocess
from pathlib import Path

import pytest

from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import context, disks, vnc


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "a"), (25, "z"), (26, "aa"), (51, "az"), (52, "ba"), (701, "zz")]
)
def test_letters(number: int, expected: str) -> None:
    assert disks.letters(number) == expected


def targets(*vectors: str) -> list[str]:
    """Names given to those disks and, last, to the context CD."""
    template = Template.parse("\n".join(f"DISK=[ {vector} ]" for vector in vectors))
    template.add("CONTEXT", {"A": "1"})
    disks.assign_targets(template)
    named = [disk["TARGET"] for disk in template.vectors("DISK")]
    return [*named, (template.vector("CONTEXT") or {})["TARGET"]]


def test_names_are_given_in_the_recorded_order() -> None:
    assert targets("IMAGE_ID=0,DEV_PREFIX=vd", "IMAGE_ID=1,DEV_PREFIX=vd") == ["vda", "vdb", "sda"]
    assert targets("IMAGE_ID=0,DEV_PREFIX=sd") == ["sda", "sdb"]
    assert targets("TYPE=swap,DEV_PREFIX=sd,SIZE=1", "IMAGE_ID=0,DEV_PREFIX=sd") == [
        "sdc",
        "sda",
        "sdb",
    ]


def test_a_wanted_name_is_kept_and_not_given_twice() -> None:
    assert targets("IMAGE_ID=0,DEV_PREFIX=vd", "IMAGE_ID=1,TARGET=vda") == ["vdb", "vda", "sda"]


def test_boot_order_replaces_any_order() -> None:
    template = Template.parse(
        'OS=[BOOT="nic0, disk1"]\nDISK=[DISK_ID=0,ORDER=7]\nDISK=[DISK_ID=1]\nNIC=[NIC_ID=0]'
    )
    disks.set_boot_order(template)
    assert [disk.get("ORDER") for disk in template.vectors("DISK")] == [None, "2"]
    assert [nic.get("ORDER") for nic in template.vectors("NIC")] == ["1"]


def test_next_id_counts_the_context_cd() -> None:
    template = Template.parse("DISK=[DISK_ID=0]\nCONTEXT=[DISK_ID=1]")
    assert disks.next_id(template) == 2


def test_context_values_are_expanded() -> None:
    variables = {"A": "$NAME-x", "B": "$USER[ssh_public_key]", "C": "cost 5$", "D": "$NONE[X]y",
                 "E": "$NAME[$"}  # fmt: skip
    user = Template.parse('SSH_PUBLIC_KEY="ssh-rsa AA"')
    context.expand(variables, {"USER": user, "TEMPLATE": Template.parse("NAME=web")})
    assert variables == {"A": "web-x", "B": "ssh-rsa AA", "C": "cost 5$", "D": "y", "E": "web[$"}


def test_a_shell_reads_back_what_was_written(tmp_path: Path) -> None:
    nasty = 'it\'s $HOME `id`\n"two" \\ lines'
    path = context.write_script({"A": nasty, "TARGET": "sda", "DISK_ID": "1"}, tmp_path)
    argv = ["sh", "-c", f'. "{path}"; printf "%s|%s" "$A" "$TARGET"']
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={"TARGET": ""})
    assert done.stdout == f"{nasty}|"


def test_passwords_are_random_and_cut() -> None:
    template = Template.parse("GRAPHICS=[TYPE=vnc,RANDOM_PASSWD=yes]")
    vnc.set_password(template)
    first = (template.vector("GRAPHICS") or {})["PASSWD"]
    assert len(first) == 8
    vnc.set_password(template)
    assert (template.vector("GRAPHICS") or {})["PASSWD"] == first
    long = Template.parse("GRAPHICS=[TYPE=VNC,PASSWD=0123456789]")
    vnc.set_password(long)
    assert (long.vector("GRAPHICS") or {})["PASSWD"] == "01234567"
    without = Template.parse("CPU=1")
    vnc.set_password(without)
    assert not without.has("GRAPHICS")
