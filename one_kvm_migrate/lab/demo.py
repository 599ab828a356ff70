"""``bin/demo``: a real VirtualBox machine becomes a running guest under OpenNebula and libvirt.

Builds the machine, starts an OpenNebula and a libvirtd of its own, migrates with the commands
a user would type, resizes the running guest, and checks everything from inside it.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import Cancelled, ContentMismatch, OkmError, RunLocked, VerifyError
from one_kvm_migrate.lab import cloud
from one_kvm_migrate.lab.demo_report import RESULT, domain_words, migration_lines, show_report
from one_kvm_migrate.lab.guest import GuestDisk, build_guest
from one_kvm_migrate.lab.inside import Inside, Shape
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from one_kvm_migrate.lab.vboxfile import VboxDisk, VboxMachine, VboxNic, write_vbox
from one_kvm_migrate.tools.run import run
from one_kvm_migrate.units import MiB

REPOSITORY = Path(__file__).parents[2]
NAME, MAC = "demo", "08:00:27:0d:e3:01"
MEMORY_MIB, VCPUS = 512, 1
GROWN_MEMORY_MIB, GROWN_VCPUS = 768, 2
BRIDGE_ADDRESS = "10.213.47.1/24"
COMMAND_TIMEOUT_S = 240.0
RESIZE_TIMEOUT_S = 90.0
# A balloon frees whole pages only and the kernel keeps some for itself.
MEMORY_SLACK_MIB = 32


class Demo:
    """One run. ``folder`` is emptied first and holds everything that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = str(Path(sys.executable).with_name("one-kvm-migrate"))
        self.seconds: dict[str, float] = {}
        self.result: dict[str, Any] = {}
        self._environment: dict[str, str] = {}

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Say what is going on and take the time."""
        print(f"\n== {title}", flush=True)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)

    def command(self, *words: str) -> bytes:
        """Run one of our own commands as a user would, showing the line; gives its output."""
        shown = " ".join(shlex.quote(word) for word in ("one-kvm-migrate", *words))
        print(f"$ {shown}", flush=True)
        outcome = run(
            [self.program, *words],
            deadline=Deadline(COMMAND_TIMEOUT_S),
            env=self._environment or None,
        )
        return outcome.stdout

    def run(self) -> dict[str, Any]:
        """The whole demo; returns what result.json holds. Raises OkmError at the first failure."""
        started = time.monotonic()
        cloud.end_forgotten(self.folder / "one")
        for part in ("machine", "one", "state", "log"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
            (self.folder / part).mkdir(parents=True)
        with self.stage("build_machine", "A VirtualBox machine to migrate"):
            disk, vbox = self._machine()
        with ExitStack() as stack:
            with self.stage("start_cloud", "An OpenNebula and a libvirtd of our own"):
                uri, admin, setup = self._cloud(stack)
            with self.stage("inspect", "What is that machine?"):
                print(self.command("inspect", str(vbox)).decode())
            options = ["--datastore", "demo-images", "--network", "demo-net"]
            with self.stage("plan", "What would be done (dry run)"):
                print(self.command("plan", str(vbox), *options).decode())
            with self.stage("migrate", "The migration: convert, register, template, VM, proof"):
                options += ["--instantiate", "--libvirt-uri", uri]
                report = json.loads(self.command("run", str(vbox), *options, "--json"))
            moved = report["machines"][0]
            print("\n".join(migration_lines(moved)))
            self._record(disk, setup, moved)
            vm_id = moved["vm_id"]
            with self.stage("check_inside", "The data, read back inside the running guest"):
                inside = stack.enter_context(Inside.open(uri, f"one-{vm_id}"))
                self.result["domain_type"] = domain_words(inside.domain_type)
                self._check_data(inside, disk)
            with self.stage("resize", "A live resize through OpenNebula"):
                self._resize(inside, admin, vm_id)
            with self.stage("stop", "The end: the VM, OpenNebula and libvirtd are stopped"):
                admin.terminate(vm_id, Deadline(60))
                stack.close()
        self.result["seconds"] = self.seconds
        self.result["total_seconds"] = round(time.monotonic() - started, 1)
        return self.result

    def _machine(self) -> tuple[GuestDisk, Path]:
        home = self.folder / "machine"
        disk = build_guest(home, name=NAME, cache_dir=REPOSITORY / "build" / "guest-cache")
        disk.raw_path.unlink()
        machine = VboxMachine(
            name=NAME,
            memory_mib=MEMORY_MIB,
            vcpus=VCPUS,
            disks=(VboxDisk(path=disk.vdi_path, uuid=disk.vdi_uuid),),
            nics=(VboxNic(mac=MAC, bridge="eth0"),),
        )
        vbox = write_vbox(home / f"{NAME}.vbox", machine)
        size_mib = disk.vdi_path.stat().st_size / MiB
        print(f"{vbox}\n{disk.vdi_path}: {size_mib:.1f} MiB, holds {disk.virtual_bytes // MiB} MiB")
        return disk, vbox

    def _cloud(self, stack: ExitStack) -> tuple[str, cloud.Administrator, cloud.Setup]:
        # Sockets have short path limits, hence a directory of libvirtd's own below /run. The
        # same folder gives the same names, so that a killed run is tidied up by the next.
        root = Path("/run", run_name(self.folder))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        libvirtd = stack.enter_context(PrivateLibvirtd(root))
        bridge = stack.enter_context(cloud.bridge(run_name(self.folder), BRIDGE_ADDRESS))
        home = self.folder / "one"
        ready = stack.enter_context(
            cloud.embedded_opennebula(
                self.program, home, libvirtd.uri, self.folder / "log" / "opennebula.log"
            )
        )
        auth_file = home / "one_auth"
        self._environment = cloud.user_environment(
            ready["endpoint"], auth_file, self.folder / "state"
        )
        print(f"$ export ONE_XMLRPC={ready['endpoint']} ONE_AUTH={auth_file}")
        admin = cloud.Administrator(ready["endpoint"], cloud.credentials(home))
        setup = admin.prepare(bridge)
        print(
            f"datastores demo-images ({setup.image_datastore}) and demo-system "
            f"({setup.system_datastore}), host localhost ({setup.host}), "
            f"network demo-net ({setup.network}) on bridge {bridge}"
        )
        return libvirtd.uri, admin, setup

    def _record(self, disk: GuestDisk, setup: cloud.Setup, moved: dict[str, Any]) -> None:
        image = moved["images"][0]
        screenshot = self.folder / "screenshot.png"
        shutil.copyfile(moved["proof"]["vnc"]["screenshot"], screenshot)
        self.result |= {
            "source_bytes": image["source_bytes"],
            "virtual_bytes": disk.virtual_bytes,
            "image_bytes": image["file_bytes"],
            "ratio": round(image["source_bytes"] / image["file_bytes"], 2),
            "image_path": image["path"],
            "ids": {
                "datastore": setup.image_datastore,
                "host": setup.host,
                "network": setup.network,
                "image": image["id"],
                "template": moved["template_id"],
                "vm": moved["vm_id"],
            },
            "vm_state": moved["vm_state"],
            "vnc": moved["vnc"],
            "proof": {key: moved["proof"][key] for key in ("verdict", "evidence", "seconds")},
            "screenshot": str(screenshot),
        }

    def _check_data(self, inside: Inside, disk: GuestDisk) -> None:
        for marker in disk.markers:
            found = inside.sha256(marker.path)
            if found != marker.sha256:
                raise ContentMismatch(f"{marker.path} in the guest is not what it was")
            print(f"{marker.path}: {marker.size_bytes} bytes, sha256 {found[:16]}… as before")
        mac = inside.mac()
        if mac != MAC:
            raise VerifyError(f"the guest's adapter has the address {mac} instead of {MAC}")
        self.result["inside"] = {"files_verified": len(disk.markers), "mac": mac}

    def _resize(self, inside: Inside, admin: cloud.Administrator, vm_id: int) -> None:
        deadline = Deadline(RESIZE_TIMEOUT_S)
        before = inside.settled_shape(MEMORY_MIB, deadline=deadline)
        sent = f"--cpu {GROWN_VCPUS} --vcpu {GROWN_VCPUS} --memory {GROWN_MEMORY_MIB} --enforce"
        print(f"before: {before}")
        print(f'one.vm.resize over XML-RPC (what "onevm resize {vm_id} {sent}" sends)')
        admin.resize(vm_id, vcpus=GROWN_VCPUS, memory_mib=GROWN_MEMORY_MIB, deadline=deadline)
        gain_mib = GROWN_MEMORY_MIB - MEMORY_MIB - MEMORY_SLACK_MIB

        def grown() -> Shape | None:
            now = inside.shape()
            more_memory = now.memory_total_mib - before.memory_total_mib >= gain_mib
            return now if now.nproc == GROWN_VCPUS and more_memory else None

        after = wait_until(grown, deadline, what="the guest to see its new size")
        print(f"after:  {after}")
        self.result["resize"] = {"before": before.as_dict(), "after": after.as_dict()}


def run_name(folder: Path) -> str:
    """Name of the bridge and of the directory below /run that a demo in *folder* uses."""
    return f"okm{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"


def main(argv: list[str] | None = None) -> int:
    """Run the demo; status 0, or that of the error, which is one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="bin/demo", description=__doc__)
    parser.add_argument(
        "--dir", type=Path, default=REPOSITORY / "demo", help="where results go (demo/)"
    )
    folder = parser.parse_args(argv).dir.absolute()
    signal.signal(signal.SIGTERM, _cancel)
    try:
        with _alone(folder):
            result = Demo(folder).run()
    except (OkmError, Cancelled) as exc:
        print(f"bin/demo: error: {exc.sentence()} Logs: {folder / 'log'}.", file=sys.stderr)
        return exc.exit_code
    except OSError as exc:
        print(f"bin/demo: error: {exc}. Logs: {folder / 'log'}.", file=sys.stderr)
        return OkmError.exit_code
    except KeyboardInterrupt:
        print("bin/demo: stopped by Ctrl-C; everything it started is stopped.", file=sys.stderr)
        return Cancelled.exit_code
    (folder / RESULT).write_text(json.dumps(result, indent=2) + "\n")
    show_report(result, folder)
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise RunLocked(
                f"another bin/demo works in {folder}", hint="Wait for it, or use --dir."
            ) from exc
        yield


def _cancel(number: int, frame: FrameType | None) -> None:
    raise Cancelled("stopped by a signal; everything it started is stopped")


if __name__ == "__main__":
    sys.exit(main())
