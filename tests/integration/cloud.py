"""A simulator in a process of its own and machines to move into it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.lab.guest import vdi_uuid
from one_kvm_migrate.lab.vboxfile import VboxDisk, VboxMachine, VboxNic, write_vbox
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.credentials import find
from one_kvm_migrate.opennebula.template import Attributes, to_xml

MAC = "08:00:27:0a:0b:0c"
COMMAND = [sys.executable, "-m", "one_kvm_migrate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A running simulator: its folder, environment for our CLI, image datastore and network."""

    dir: Path
    environ: dict[str, str]
    datastore: str
    network: str

    def client(self) -> Client:
        """A session of oneadmin."""
        return Client(find(environ=self.environ, home=Path("/nonexistent")))

    def run(
        self, *arguments: str | Path, timeout_s: float = 100
    ) -> subprocess.CompletedProcess[str]:
        """``one-kvm-migrate`` with *arguments*, as a user would run it."""
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def names(self, pool: str, tag: str) -> list[str]:
        """Names of all objects of a pool, e.g. ``names("image", "IMAGE")``."""
        with self.client() as one:
            parameters = (-2, -1, -1, -1) if pool == "vm" else (-2, -1, -1)
            found = one.document(f"one.{pool}pool.info", *parameters).findall(f"{tag}/NAME")
        return sorted(item.text or "" for item in found)

    def ranges(self) -> list[str]:
        """MAC addresses of the ranges that were added to the network."""
        with self.client() as one:
            ranges = one.document("one.vn.info", int(self.network)).findall("AR_POOL/AR")
        return [item.findtext("MAC") or "" for item in ranges if item.findtext("TYPE") == "ETHER"]

    def folder(self) -> Path:
        """Folder of the image datastore."""
        return Path(
            self.document("one.datastore.info", int(self.datastore)).findtext("BASE_PATH") or ""
        )

    def document(self, method: str, *parameters: int) -> etree._Element:
        """The answer of one call."""
        with self.client() as one:
            return one.document(method, *parameters)

    def leftovers(self) -> dict[str, list[str]]:
        """Everything a run could leave behind; all lists are empty in a clean cloud."""
        return {
            "images": self.names("image", "IMAGE"),
            "templates": self.names("template", "VMTEMPLATE"),
            "vms": self.names("vm", "VM"),
            "ranges": self.ranges(),
            "files": sorted(path.name for path in self.folder().iterdir()),
        }


@contextmanager
def running_cloud(root: Path, *options: str) -> Iterator[Cloud]:
    """A fresh simulator below *root*, stopped at the end; *options* go to ``sim``."""
    ready = root / "ready.json"
    log = (root / "sim.log").open("wb")
    argv = [*COMMAND, "sim", "--dir", str(root / "one"), "--port", "0"]
    argv += ["--ready-file", str(ready), *options]
    process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(
            lambda: ready.exists() or process.poll() is not None,
            Deadline(30),
            what="the simulator to answer",
            interval_s=0.05,
        )
        assert process.poll() is None, (root / "sim.log").read_text()
        yield _prepared(root, json.loads(ready.read_text())["endpoint"])
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _prepared(root: Path, endpoint: str) -> Cloud:
    environ = {
        **os.environ,
        "ONE_XMLRPC": endpoint,
        "ONE_AUTH": str(root / "one/one_auth"),
        "OKM_STATE_DIR": str(root / "state"),
        "HOME": str(root),
    }
    cloud = Cloud(dir=root, environ=environ, datastore="1", network="0")
    network: Attributes = [
        ("NAME", "lab"),
        ("VN_MAD", "dummy"),
        ("BRIDGE", "br-lab"),
        ("AR", {"TYPE": "IP4", "IP": "10.9.0.10", "SIZE": "20"}),
    ]
    with cloud.client() as one:
        assert one.number("one.vn.allocate", to_xml(network), -1) == 0
    return cloud


def make_machine(folder: Path, name: str = "web", *, mac: str | None = MAC) -> Path:
    """A ``.vbox`` with one small VDI full of recognisable data; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, vdi = folder / "content.raw", folder / f"{name}.vdi"
    with raw.open("wb") as stream:
        stream.truncate(8 << 20)
        stream.seek(1 << 20)
        stream.write(f"{name} data ".encode() * 50_000)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vdi", str(raw), str(vdi)]
    subprocess.run(argv, check=True)
    raw.unlink()
    machine = VboxMachine(
        name=name,
        memory_mib=256,
        vcpus=1,
        disks=(VboxDisk(path=vdi, uuid=vdi_uuid(vdi)),),
        nics=(VboxNic(mac=mac),) if mac else (),
    )
    return write_vbox(folder / f"{name}.vbox", machine)
