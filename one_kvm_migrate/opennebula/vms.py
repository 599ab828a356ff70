"""VMs: found by marker, watched until they run, ended."""

from dataclasses import dataclass

from lxml import etree
from pyone import LCM_STATE, VM_STATE

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded, StateUnexpected
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.markers import Marker
from one_kvm_migrate.opennebula.xmlread import number, text
from one_kvm_migrate.secret import Secret

# include/VirtualMachine.h of OpenNebula.
PENDING, HOLD, ACTIVE, DONE = 1, 2, 3, 6
# INIT, PENDING, HOLD, ACTIVE, CLONING: a VM goes through these on its way up.
STARTING = (0, 1, 2, 3, 10)
STOPPED, SUSPENDED, POWEROFF, UNDEPLOYED = 4, 5, 8, 9
RECOVER_RETRY, RECOVER_DELETE = 2, 3
LCM_RUNNING = 3
LCM_FAILURES = {14, *range(36, 43), 44, 46, 47, 48, 49, 50, 61}
NOT_DONE = (-2, -1, -1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where a running VM is and how its console is reached."""

    vm_id: int
    deploy_id: str
    host: str
    vnc_listen: str
    vnc_port: int
    vnc_password: Secret


def find_by_marker(client: Client, marker: Marker) -> int | None:
    """Id of the VM (not DONE) that carries *marker*, or None."""
    for item in client.document("one.vmpool.infoextended", *NOT_DONE).findall("VM"):
        if marker.matches(item.find("USER_TEMPLATE")):
            return number(item, "ID")
    return None


def state_name(document: etree._Element) -> str:
    """The state as onevm shows it: the LCM state of an active VM, else the state."""
    state, lcm = number(document, "STATE"), number(document, "LCM_STATE")
    names, value = (LCM_STATE, lcm) if state == ACTIVE else (VM_STATE, state)
    try:
        return str(names(value).name)
    except ValueError:
        return str(value)


def is_waiting(client: Client, vm_id: int) -> bool:
    """True while the VM is not yet on a host (PENDING or HOLD)."""
    return number(client.document("one.vm.info", vm_id), "STATE") in (PENDING, HOLD)


def deploy(client: Client, vm_id: int, host_id: int) -> None:
    """Deploy a held or pending VM on a host, with oned's capacity check."""
    client.call("one.vm.deploy", vm_id, host_id, True, -1, "")


def wait_running(client: Client, vm_id: int, deadline: Deadline) -> Running:
    """Wait until the VM runs.

    Raises StateUnexpected with oned's own reason when it cannot start, DeadlineExceeded with
    what it was waiting for.
    """
    seen = ""

    def running() -> etree._Element | None:
        nonlocal seen
        document = client.document("one.vm.info", vm_id)
        state, lcm = number(document, "STATE"), number(document, "LCM_STATE")
        if state == ACTIVE and lcm == LCM_RUNNING:
            return document
        scheduler = text(document, "USER_TEMPLATE/SCHED_MESSAGE")
        seen = f"{state_name(document)} {scheduler}".strip()
        if (state == ACTIVE and lcm in LCM_FAILURES) or state not in STARTING:
            reason = text(document, "USER_TEMPLATE/ERROR", "no reason given")
            raise StateUnexpected(
                f"VM {vm_id} did not start, it is {state_name(document)}: {reason}",
                hint=f"Its log on the front-end has it all (/var/log/one/{vm_id}.log).",
            )
        return None

    try:
        found = wait_until(running, deadline, what=f"VM {vm_id} to run", interval_s=0.5)
    except DeadlineExceeded as exc:
        raise DeadlineExceeded(
            f"VM {vm_id} does not run after {deadline.timeout_s:g} s, it is {seen}",
            hint="See onevm show and onehost list.",
        ) from exc
    return _running(found)


def _running(document: etree._Element) -> Running:
    graphics = document.find("TEMPLATE/GRAPHICS")
    history = document.findall("HISTORY_RECORDS/HISTORY")
    return Running(
        vm_id=number(document, "ID"),
        deploy_id=text(document, "DEPLOY_ID"),
        host=text(history[-1], "HOSTNAME") if history else "",
        vnc_listen="" if graphics is None else text(graphics, "LISTEN"),
        vnc_port=0 if graphics is None else number(graphics, "PORT"),
        vnc_password=Secret("" if graphics is None else text(graphics, "PASSWD")),
    )


def try_again(client: Client, vm_id: int) -> None:
    """Start a VM once more that failed to start or was powered off meanwhile."""
    document = client.document("one.vm.info", vm_id)
    state, lcm = number(document, "STATE"), number(document, "LCM_STATE")
    if state == ACTIVE and lcm in LCM_FAILURES:
        client.call("one.vm.recover", vm_id, RECOVER_RETRY)
    elif state in (STOPPED, SUSPENDED, POWEROFF, UNDEPLOYED):
        client.call("one.vm.action", "resume", vm_id)


def terminate(client: Client, marker: Marker, deadline: Deadline) -> None:
    """End the VM that carries *marker* hard, and wait until it is DONE; gone is success."""
    vm_id = find_by_marker(client, marker)
    if vm_id is None:
        return
    try:
        client.call("one.vm.action", "terminate-hard", vm_id)
    except StateUnexpected:
        # In the middle of another action: deleting by recover always works.
        client.call("one.vm.recover", vm_id, RECOVER_DELETE)
    wait_until(
        lambda: number(client.document("one.vm.info", vm_id), "STATE") == DONE,
        deadline,
        what=f"VM {vm_id} to end",
        interval_s=0.5,
    )
