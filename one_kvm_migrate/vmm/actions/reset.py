"""Press the reset button of a domain."""

from one_kvm_migrate.vmm import domain
from one_kvm_migrate.vmm.call import Call
from one_kvm_migrate.vmm.conn import connect, refusal
from one_kvm_migrate.vmm.kvmrc import Settings


def timeout_s(settings: Settings) -> float:
    """Seconds for libvirt to do it."""
    return settings.seconds("ACTION_TIMEOUT", 60)


def run(call: Call) -> str:
    """Reset the domain. Raises DriverError."""
    complaint = f"Could not reset domain {call.argv[0]}"
    dom = domain.require(connect(call.uri), call.argv[0], complaint)
    with refusal(complaint):
        dom.reset(0)
    return ""
