"""What the actions do with one domain; every libvirt answer is read by code, never by text."""

import xml.etree.ElementTree as ET

import libvirt

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.vmm.conn import DriverError, refusal

AGENT_CHANNEL = "org.qemu.guest_agent.0"
UUID_LENGTH = 36
POLL_S = 0.2
# States in which the guest is there; the others mean it is about to vanish or already has.
ALIVE = (
    libvirt.VIR_DOMAIN_RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED,
    libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED,
)
# Busy with another job, QEMU did not die in time, or it just ended: worth another look.
PASSING = (
    libvirt.VIR_ERR_OPERATION_FAILED,
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_NO_DOMAIN,
)


def find(conn: "libvirt.virConnect", name_or_uuid: str) -> "libvirt.virDomain | None":
    """The domain, or None if libvirt knows none. Raises DriverError when it cannot say."""
    by_uuid = len(name_or_uuid) == UUID_LENGTH and name_or_uuid.count("-") == 4
    lookup = conn.lookupByUUIDString if by_uuid else conn.lookupByName
    try:
        return lookup(name_or_uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        with refusal(f"cannot look up domain {name_or_uuid}"):
            raise


def require(
    conn: "libvirt.virConnect", name_or_uuid: str, complaint: str = ""
) -> "libvirt.virDomain":
    """Like ``find``, but no such domain is a DriverError that begins with *complaint*."""
    found = find(conn, name_or_uuid)
    if found is None:
        missing = f"no domain {name_or_uuid} runs on this host"
        raise DriverError(f"{complaint}: {missing}" if complaint else missing)
    return found


def is_alive(dom: "libvirt.virDomain") -> bool:
    """True while the guest runs or is paused; False when it ended, was undefined, or crashed."""
    try:
        return dom.state()[0] in ALIVE
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        with refusal("cannot read the state of the domain"):
            raise


def is_gone(dom: "libvirt.virDomain") -> bool:
    """True once no QEMU process belongs to the domain."""
    try:
        return not dom.isActive()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return True
        with refusal("cannot read the state of the domain"):
            raise


def destroy(dom: "libvirt.virDomain", deadline: Deadline) -> None:
    """End the domain by force and return when it is gone. Gone already is success.

    Raises DeadlineExceeded, or DriverError when libvirt refuses for good.
    """
    wait_until(lambda: _destroy_once(dom), deadline, what="the domain to end", interval_s=POLL_S)


def _destroy_once(dom: "libvirt.virDomain") -> bool:
    try:
        dom.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in PASSING:
            with refusal("cannot destroy the domain"):
                raise
    return is_gone(dom)


def live_xml(dom: "libvirt.virDomain") -> ET.Element:
    """The definition of the running domain. Raises DriverError."""
    with refusal("cannot read the definition of the domain"):
        return ET.fromstring(dom.XMLDesc(0))


def agent_connected(xml: ET.Element) -> bool:
    """True if the guest agent has its channel open, as *xml* from ``live_xml`` says."""
    return any(
        target.get("name") == AGENT_CHANNEL and target.get("state") == "connected"
        for target in xml.iterfind("devices/channel/target")
    )
