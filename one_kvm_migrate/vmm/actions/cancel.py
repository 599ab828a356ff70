"""End a domain by force. One that is gone already is what was asked for."""

from one_kvm_migrate.errors import DeadlineExceeded
from one_kvm_migrate.vmm import domain, hostmem
from one_kvm_migrate.vmm.call import Call
from one_kvm_migrate.vmm.conn import DriverError, connect
from one_kvm_migrate.vmm.kvmrc import Settings


def timeout_s(settings: Settings) -> float:
    """Seconds to keep trying; OpenNebula's own script tries for 60."""
    return settings.seconds("CANCEL_TIMEOUT", 60)


def run(call: Call) -> str:
    """Destroy the domain. Safe to run again. Raises DriverError when it stays."""
    deploy_id = call.argv[0]
    conn = connect(call.uri)
    dom = domain.find(conn, deploy_id)
    if dom is None:
        return ""
    try:
        domain.destroy(dom, call.deadline)
    except (DriverError, DeadlineExceeded) as error:
        raise DriverError(f"Could not destroy {deploy_id}: {error}") from error
    hostmem.compact(call.settings, hostmem.ON_STOP, call.log)
    return ""
