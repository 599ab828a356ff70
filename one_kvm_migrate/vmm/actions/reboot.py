"""Ask the guest to reboot."""

from one_kvm_migrate.vmm import domain
from one_kvm_migrate.vmm.call import Call
from one_kvm_migrate.vmm.conn import connect, refusal
from one_kvm_migrate.vmm.kvmrc import Settings


def timeout_s(settings: Settings) -> float:
    """Seconds for libvirt to pass the request on; the guest's reboot is not waited for."""
    return settings.seconds("ACTION_TIMEOUT", 60)


def run(call: Call) -> str:
    """Send the request, by the guest agent or ACPI as libvirt chooses. Raises DriverError."""
    complaint = f"Could not reboot domain {call.argv[0]}"
    dom = domain.require(connect(call.uri), call.argv[0], complaint)
    with refusal(complaint):
        dom.reboot(0)
    return ""
