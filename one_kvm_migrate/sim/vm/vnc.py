"""Console ports and passwords."""

import secrets
import socket
from typing import TYPE_CHECKING

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.template import Template, is_yes

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

LAST_PORT = 65535
FIRST_RESERVED = 32768
LENGTHS = {"VNC": 8, "SPICE": 59}


def set_password(template: Template) -> None:
    """GRAPHICS/PASSWD: random if asked for and missing, and never longer than it may be."""
    graphics = template.vector("GRAPHICS")
    if graphics is None:
        return
    length = LENGTHS.get(graphics.get("TYPE", "").upper())
    if is_yes(graphics.get("RANDOM_PASSWD", "")) and not graphics.get("PASSWD"):
        graphics["PASSWD"] = secrets.token_hex(4 if length == LENGTHS["VNC"] else 29)
    if length and graphics.get("PASSWD"):
        graphics["PASSWD"] = graphics["PASSWD"][:length]


def set_port(sim: "Sim", vm_id: int, template: Template) -> None:
    """GRAPHICS/PORT for a machine about to be deployed; one that is set stays.

    Start + number of the machine if that is free, else the first free one. Ports that something
    else on this computer listens on are passed over. Raises OkmError when none is left.
    """
    graphics = template.vector("GRAPHICS")
    if graphics is None or graphics.get("PORT"):
        return
    start = sim.config.vnc_base_port
    taken = _taken(sim, vm_id)
    first = start + vm_id % (LAST_PORT - start)
    for port in (first, *range(start, LAST_PORT + 1)):
        # Upper ports belong to outgoing connections; oned.conf reserves them as well.
        if port not in taken and (port < FIRST_RESERVED or start >= FIRST_RESERVED) and _free(port):
            graphics["PORT"] = str(port)
            return
    raise OkmError("no console port is free", hint=f"All from {start} up are in use.")


def free_port(template: Template) -> None:
    """Forget GRAPHICS/PORT: the machine leaves its host."""
    graphics = template.vector("GRAPHICS")
    if graphics is not None:
        graphics.pop("PORT", None)


def _taken(sim: "Sim", vm_id: int) -> set[int]:
    ports = set()
    for vm in sim.store.all("vm"):
        if vm.oid != vm_id and vm.number("STATE") != VmState.DONE:
            ports.add(vm.number("TEMPLATE/GRAPHICS/PORT"))
    return ports


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
