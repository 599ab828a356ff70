"""What a handler gets: who calls which method of which simulator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.store import Obj

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

ONEADMIN = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated call. Handlers run inside a store transaction."""

    sim: "Sim"
    user: Obj
    method: str

    @property
    def uid(self) -> int:
        """Number of the calling user."""
        return self.user.oid

    @property
    def gid(self) -> int:
        """Number of the caller's primary group."""
        return self.user.number("GID")

    @property
    def groups(self) -> list[int]:
        """All groups of the caller."""
        return doc.ids(self.user.body, "GROUPS")

    @property
    def is_admin(self) -> bool:
        """True for oneadmin and the oneadmin group: nothing is forbidden to them."""
        return self.uid == ONEADMIN or ONEADMIN in self.groups


# A handler takes (Call, *parameters); annotations int, bool, str and list[int] are enforced
# by the server, defaults make a parameter optional. The result goes into the answer.
Handler = Callable[..., str | int]
Methods = Mapping[str, Handler]
