"""The proof against real guests: good ones, silent ones, dying ones, and consoles that refuse."""

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import libvirt
import pytest
from PIL import Image

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import GuestPanic, OkmError, VerifyError, VncFailed
from one_kvm_migrate.lab.guest import GuestDisk
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from one_kvm_migrate.proof.boot import ProofTarget, prove
from one_kvm_migrate.proof.link import open_link, state_word
from one_kvm_migrate.proof.serial import SerialConsole
from one_kvm_migrate.proof.vnc import VncEndpoint, take_screenshot
from one_kvm_migrate.secret import Secret
from tests.integration.domains import AGENT, DISK, PASSWORD, SERIAL, domain, endpoint, overlay

DEAD_KERNEL = "<kernel>{kernel}</kernel><cmdline>console=ttyS0 panic=0</cmdline>"


def kernel() -> Path:
    """The demo guest's kernel, which without its initramfs finds no root."""
    cache = Path(__file__).parents[2] / "build" / "guest-cache"
    return next(cache.glob("kit-*/vmlinuz"))


@pytest.mark.parametrize("talk", [AGENT + SERIAL, AGENT, SERIAL], ids=["both", "agent", "serial"])
def test_a_good_guest_is_proven(
    talk: str,
    libvirtd: PrivateLibvirtd,
    demo_guest: GuestDisk,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    disk = overlay(demo_guest.vdi_path, tmp_path / "disk.qcow2")
    with domain(libvirtd.uri, "good", DISK.format(path=disk) + talk) as made:
        target = ProofTarget(domain="good", vnc=endpoint(made), libvirt_uri=libvirtd.uri)
        facts = prove(target, deadline=Deadline(90), workdir=tmp_path).as_dict()
    assert facts["verdict"] == "proven"
    assert facts["vnc"]["protocol"] == "3.8"
    assert facts["vnc"]["security"] == "vnc"
    screenshot = Path(facts["vnc"]["screenshot"])
    with Image.open(screenshot) as image:
        assert image.format == "PNG"
        assert image.size == (720, 400)
    assert not facts["vnc"]["screen"]["blank"]
    if AGENT in talk:
        assert facts["agent"]["hostname"] == "demo"
        assert "agent: answers" in facts["evidence"]
    else:
        assert facts["agent"] == {"state": "absent"}
    if SERIAL in talk:
        # Whichever is read first is enough when there is no agent to wait for.
        assert {"serial: login prompt", "serial: demo guest ready"} & set(facts["evidence"])
    else:
        assert facts["serial"] == {"state": "absent"}
    assert PASSWORD not in json.dumps(facts) + caplog.text + repr(target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk.qcow2", "good.png"]


def test_a_guest_without_root_disk_is_a_panic(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    boot = DEAD_KERNEL.format(kernel=kernel())
    with domain(libvirtd.uri, "dead", SERIAL, boot=boot) as made:
        target = ProofTarget(domain="dead", vnc=endpoint(made), libvirt_uri=libvirtd.uri)
        with pytest.raises(GuestPanic, match=r"dead cannot boot: .*Unable to mount root fs"):
            prove(target, deadline=Deadline(90), workdir=tmp_path)


def test_a_machine_that_finds_no_disk_is_not_proven(
    libvirtd: PrivateLibvirtd, tmp_path: Path
) -> None:
    # The firmware's "no bootable device" is on screen: a drawn screen alone must not do.
    with domain(libvirtd.uri, "lost", AGENT + SERIAL) as made:
        target = ProofTarget(domain="lost", vnc=endpoint(made), libvirt_uri=libvirtd.uri)
        with pytest.raises(VerifyError, match="lost runs but shows no sign of life within 8 s"):
            prove(target, deadline=Deadline(8), workdir=tmp_path)


def test_a_machine_that_stops_is_noticed_at_once(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    with domain(libvirtd.uri, "gone", SERIAL) as made:
        target = ProofTarget(domain="gone", vnc=endpoint(made), libvirt_uri=libvirtd.uri)
        threading.Timer(2, made.destroy).start()
        started = time.monotonic()
        with pytest.raises(VerifyError, match="gone stopped while it was booting"):
            prove(target, deadline=Deadline(60), workdir=tmp_path)
        assert time.monotonic() - started < 30


def test_a_paused_machine_is_called_paused(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    with domain(libvirtd.uri, "still", SERIAL) as made:
        made.suspend()
        target = ProofTarget(
            domain=made.UUIDString(),
            vnc=endpoint(made),
            libvirt_uri=libvirtd.uri,
            label="VM 7 (one-7)",
        )
        with pytest.raises(VerifyError, match=r"^VM 7 \(one-7\) is paused instead of booting$"):
            prove(target, deadline=Deadline(60), workdir=tmp_path)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, "running"),
        (libvirt.VIR_DOMAIN_PAUSED, "paused"),
        (libvirt.VIR_DOMAIN_CRASHED, "crashed"),
        (libvirt.VIR_DOMAIN_SHUTDOWN, "stopped"),
        (libvirt.VIR_DOMAIN_SHUTOFF, "stopped"),
    ],
)
def test_states_in_words(number: int, word: str) -> None:
    assert state_word(number) == word


def test_without_libvirt_the_screen_is_all(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    with domain(libvirtd.uri, "screen", "") as made:
        nowhere = "qemu:///system?socket=/nonexistent/sock"
        target = ProofTarget(domain="screen", vnc=endpoint(made), libvirt_uri=nowhere)
        facts = prove(target, deadline=Deadline(30), workdir=tmp_path).as_dict()
    assert facts["verdict"] == "screen-only"
    assert facts["evidence"] == ["screen"]
    assert facts["agent"]["state"] == "unreachable"


def test_a_console_in_use_is_left_to_its_user(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    with (
        domain(libvirtd.uri, "busy", SERIAL) as made,
        open_link(libvirtd.uri, "busy", deadline=Deadline(10)) as link,
        SerialConsole(link),
    ):
        target = ProofTarget(domain="busy", vnc=endpoint(made), libvirt_uri=libvirtd.uri)
        with pytest.raises(VerifyError, match="serial line busy"):
            prove(target, deadline=Deadline(4), workdir=tmp_path)


def test_a_hanging_daemon_does_not_hang_us(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as server,
        pytest.raises(OkmError, match="did not answer within 2 s"),
    ):
        server.bind(str(tmp_path / "sock"))
        server.listen(1)
        uri = f"qemu:///system?socket={tmp_path}/sock"
        with open_link(uri, "any", deadline=Deadline(2)):
            pass


class TestConsole:
    """VNC alone."""

    def test_a_wrong_password_is_refused_at_once(
        self, libvirtd: PrivateLibvirtd, tmp_path: Path
    ) -> None:
        with domain(libvirtd.uri, "locked", "") as made:
            started = time.monotonic()
            with pytest.raises(VncFailed, match="refused us: Authentication failed") as caught:
                take_screenshot(endpoint(made, "wrong"), tmp_path / "s.png", deadline=Deadline(30))
            assert time.monotonic() - started < 5
        assert "wrong" not in caught.value.sentence()
        assert list(tmp_path.iterdir()) == []

    def test_a_closed_port_is_given_up(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            where = VncEndpoint(host="127.0.0.1", port=port)
            with pytest.raises(VncFailed, match=f"127.0.0.1:{port} does not answer"):
                take_screenshot(where, tmp_path / "s.png", deadline=Deadline(1))

    @pytest.mark.parametrize(
        ("greeting", "words"),
        [
            (b"", "does not answer: no answer in time"),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", "refused us: invalid initial server response"),
            (None, "does not answer"),
        ],
        ids=["silent", "another service", "hangs up"],
    )
    def test_something_else_listens(
        self, greeting: bytes | None, words: str, tmp_path: Path
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            kept = []

            def serve() -> None:
                while True:
                    try:
                        peer, _ = server.accept()
                    except OSError:
                        return
                    kept.append(peer)
                    if greeting is None:
                        peer.close()
                    else:
                        peer.sendall(greeting)

            thread = threading.Thread(target=serve)
            thread.start()
            where = VncEndpoint(host="127.0.0.1", port=server.getsockname()[1])
            try:
                with pytest.raises(VncFailed, match=words):
                    take_screenshot(where, tmp_path / "s.png", deadline=Deadline(2))
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join(5)
                for peer in kept:
                    peer.close()

    def test_the_process_ends_after_a_screenshot(
        self, libvirtd: PrivateLibvirtd, tmp_path: Path
    ) -> None:
        code = (
            "import sys; from pathlib import Path; from one_kvm_migrate.proof.vnc import *\n"
            "from one_kvm_migrate.secret import Secret\n"
            "where = VncEndpoint(host='127.0.0.1', port=int(sys.argv[1]),"
            " password=Secret(sys.stdin.readline().strip()))\n"
            "print(take_screenshot(where, Path(sys.argv[2]), deadline=Deadline(10)).security)\n"
        )
        with domain(libvirtd.uri, "short", "") as made:
            argv = [sys.executable, "-W", "error", "-c", code]
            argv += [str(endpoint(made).port), str(tmp_path / "s.png")]
            ended = subprocess.run(
                argv, input=PASSWORD, capture_output=True, text=True, timeout=20, check=False
            )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "vnc\n", "")


def test_signals_and_hooks_stay_ours(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.excepthook
    with domain(libvirtd.uri, "calm", "") as made:
        where = VncEndpoint(host="127.0.0.1", port=endpoint(made).port, password=Secret(PASSWORD))
        take_screenshot(where, tmp_path / "s.png", deadline=Deadline(10))
    assert {number: signal.getsignal(number) for number in before} == before
    assert sys.excepthook is hook
