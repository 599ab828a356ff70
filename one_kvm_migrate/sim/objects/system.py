"""one.system.*"""

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.config import VERSION


def version(call: Call) -> str:
    """one.system.version"""
    return VERSION


def config(call: Call) -> str:
    """one.system.config: for the oneadmin group only."""
    auth.require_owner_admin(call)
    return doc.dumps(call.sim.oned.template().to_xml("OPENNEBULA_CONFIGURATION"))


METHODS: dict[str, Handler] = {
    "one.system.version": version,
    "one.system.config": config,
}
