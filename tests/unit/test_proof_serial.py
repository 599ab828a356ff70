"""What counts as alive and what as dead on a serial line."""

import pytest

from one_kvm_migrate.proof.serial import read_signs

FIRMWARE = "SeaBIOS (version 1.16.2)\r\nBooting from Hard Disk...\r\nGRUB loading.\r\n"


def test_firmware_is_no_sign_of_life() -> None:
    signs = read_signs(FIRMWARE)
    assert (signs.userspace, signs.kernel, signs.fatal) == ((), (), None)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("\r\nDebian GNU/Linux 12 web01 ttyS0\r\n\r\nweb01 login: ", "login prompt"),
        ("localhost login:", "login prompt"),
        ("web01 login: [   12.345678] e1000: eth0 NIC Link is Up\n", "login prompt"),
        ("[  OK  ] Started ssh.service - OpenBSD Secure Shell server.\r\n", "service manager"),
        ("\x1b[0m[\x1b[0;32m  OK  \x1b[0m] Reached target network.target\r\n", "service manager"),
        ("OKM-GUEST-READY demo\r\n", "demo guest ready"),
    ],
)
def test_userspace(text: str, sign: str) -> None:
    assert sign in read_signs(FIRMWARE + text).userspace


@pytest.mark.parametrize(
    "text", ["Last login: never mind this\n", "see the login: page of the manual, it says\n"]
)
def test_a_word_is_not_a_prompt(text: str) -> None:
    assert read_signs(text).userspace == ()


def test_kernel_messages_are_weaker_than_userspace() -> None:
    signs = read_signs("[    0.000000] Linux version 6.1.0-56-amd64\r\n[    0.5] x\r\n")
    assert signs.userspace == ()
    assert signs.kernel == ("kernel messages", "kernel banner")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on (0,0)\n",
            "Kernel panic - not syncing: VFS: Unable to mount root fs on (0,0)",
        ),
        (
            "ALERT!  UUID=1-2 does not exist.  Dropping to a shell!\n",
            "ALERT!  UUID=1-2 does not exist.  Dropping to a shell!",
        ),
        ("You are in emergency mode. After logging in,\n", None),
    ],
)
def test_the_fatal_line_is_quoted(text: str, line: str | None) -> None:
    fatal = read_signs(FIRMWARE + text).fatal
    assert fatal is not None
    assert line is None or fatal == line


def test_a_panic_outweighs_an_earlier_prompt() -> None:
    signs = read_signs("web01 login: \n[ 9.000000] Kernel panic - not syncing: Oops\n")
    assert signs.fatal == "Kernel panic - not syncing: Oops"
