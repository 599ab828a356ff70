"""Asking the simulator as some user, and things to ask about."""

import subprocess
import xmlrpc.client
from pathlib import Path
from typing import Any

from lxml import etree

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.sim.service import Sim

ADMIN = "oneadmin:opennebula"
TIMEOUT_S = 20.0


class Asker:
    """XML-RPC as one user."""

    def __init__(self, sim: Sim, session: str = ADMIN) -> None:
        self.sim = sim
        self.session = session

    def raw(self, method: str, *params: Any) -> list[Any]:
        """The whole answer."""
        server = xmlrpc.client.ServerProxy(self.sim.endpoint)
        answer: list[Any] = getattr(server, method)(self.session, *params)
        return answer

    def __call__(self, method: str, *params: Any) -> Any:
        """The value of a call that must succeed."""
        done, value = self.raw(method, *params)[:2]
        assert done, value
        return value

    def refusal(self, method: str, *params: Any) -> tuple[int, str]:
        """(code, text) of a call that must fail."""
        done, text, code = self.raw(method, *params)[:3]
        assert not done, text
        return code, text

    def xml(self, method: str, *params: Any) -> etree._Element:
        """The document a call answers."""
        return etree.fromstring(self(method, *params))

    def settle(self) -> None:
        """Wait for background work."""
        self.sim.settle(Deadline(TIMEOUT_S))


def qcow2(path: Path, *more: str, size: str = "8M") -> Path:
    """An empty qcow2 file at *path*, made with the qemu-img options *more*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, path, size], check=True)
    return path


def make_datastore(ask: Asker, safe: Path) -> int:
    """Number of a new qcow2 image datastore that may copy from *safe*."""
    text = f'NAME=pics\nDS_MAD=fs\nTM_MAD=qcow2\nTYPE=IMAGE_DS\nSAFE_DIRS="{safe}"'
    return int(ask("one.datastore.allocate", text, -1))


def state(ask: Asker, image: int) -> int:
    """STATE of an image."""
    return int(ask.xml("one.image.info", image).findtext("STATE") or -1)
