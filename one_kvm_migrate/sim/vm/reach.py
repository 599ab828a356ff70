"""How handlers get at a machine, and how they refuse."""

from one_kvm_migrate.sim import auth
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.vm.history import Actor
from one_kvm_migrate.sim.vm.machine import Machine


def machine(call: Call, oid: int, right: Right = Right.MANAGE) -> Machine:
    """Machine *oid* for a caller who has *right* on it.

    Raises OnedError: no such machine, not authorized, or locked.
    """
    found = Machine.load(call.sim, oid)
    auth.require(call, right, found.obj)
    common.require_unlocked(call, found.obj, right)
    return found


def actor(call: Call) -> Actor:
    """The caller, for history records."""
    return Actor.of(call.uid, call.gid)


def refuse(text: str) -> OnedError:
    """An action that the machine's state does not allow."""
    return OnedError(Code.ACTION, text)
