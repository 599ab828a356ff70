"""Shut a guest down: the agent first, ACPI, and force when the site allows it."""

from collections.abc import Callable

import libvirt

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded
from one_kvm_migrate.vmm import domain, hostmem
from one_kvm_migrate.vmm.call import Call
from one_kvm_migrate.vmm.conn import DriverError, connect, reason
from one_kvm_migrate.vmm.kvmrc import Settings
from one_kvm_migrate.vmm.log import Log

# What OpenNebula's script takes when kvmrc is there but does not say.
UNSET_TIMEOUT_S = 120
DESTROY_TIMEOUT_S = 30.0
AGENT_TIMEOUT_S = 5


def timeout_s(settings: Settings) -> float:
    """The guest's time, and the time to destroy it afterwards."""
    return settings.seconds("SHUTDOWN_TIMEOUT", UNSET_TIMEOUT_S) + DESTROY_TIMEOUT_S


def run(call: Call) -> str:
    """Return when the domain is gone. An unknown domain is gone: safe to run again.

    Raises DriverError when the guest ignores every request and FORCE_DESTROY is not set.
    """
    deploy_id = call.argv[0]
    dom = domain.find(connect(call.uri), deploy_id)
    if dom is None or domain.is_gone(dom):
        return ""
    how = _shut_down(call, dom, deploy_id)
    call.log.info(f"domain {deploy_id} ended: {how}")
    hostmem.compact(call.settings, hostmem.ON_STOP, call.log)
    return ""


def _shut_down(call: Call, dom: "libvirt.virDomain", deploy_id: str) -> str:
    settings, log = call.settings, call.log
    if settings.flag("CANCEL_NO_ACPI") and domain.live_xml(dom).find("features/acpi") is None:
        _force(dom, deploy_id)
        return "destroyed, since it has no ACPI"
    patience_s = settings.seconds("SHUTDOWN_TIMEOUT", UNSET_TIMEOUT_S)
    asked: list[str] = []
    # The second round at half time covers an event that the guest lost, as while it booted.
    for left_s in (patience_s / 2, patience_s / 2):
        asked += _ask(dom, log)
        if _ends_within(dom, min(left_s, call.deadline.left_s()), call.deadline):
            return "shut down by " + (" and ".join(dict.fromkeys(asked)) or "itself")
    if not settings.flag("FORCE_DESTROY"):
        raise DriverError(
            f"Timed out shutting down {deploy_id}: it still runs after {patience_s:g} s",
            hint="Shut it down inside, or terminate it with --hard.",
        )
    log.error(f"Timeout shutting down {deploy_id}. Destroying it")
    _force(dom, deploy_id)
    return "destroyed after the timeout"


def _ask(dom: "libvirt.virDomain", log: Log) -> list[str]:
    """Send one request, the best that is accepted; its name, or nothing."""
    ways: list[tuple[str, Callable[[], object]]] = [("ACPI", lambda: _by_acpi(dom))]
    if domain.agent_connected(domain.live_xml(dom)):
        ways.insert(0, ("the guest agent", lambda: _by_agent(dom)))
    for name, send in ways:
        try:
            send()
        except libvirt.libvirtError as error:
            log.info(f"{name} did not take the request: {reason(error)}")
            continue
        return [name]
    return []


def _by_agent(dom: "libvirt.virDomain") -> None:
    dom.agentSetResponseTimeout(AGENT_TIMEOUT_S, 0)
    dom.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)


def _by_acpi(dom: "libvirt.virDomain") -> None:
    dom.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def _ends_within(dom: "libvirt.virDomain", time_s: float, outer: Deadline) -> bool:
    inner = Deadline(time_s)

    def over() -> bool:
        return domain.is_gone(dom) or outer.passed()

    try:
        wait_until(over, inner, what="the guest to end", interval_s=domain.POLL_S)
    except DeadlineExceeded:
        return False
    return domain.is_gone(dom)


def _force(dom: "libvirt.virDomain", deploy_id: str) -> None:
    try:
        domain.destroy(dom, Deadline(DESTROY_TIMEOUT_S))
    except (DriverError, DeadlineExceeded) as error:
        raise DriverError(f"Could not destroy {deploy_id}: {error}") from error
