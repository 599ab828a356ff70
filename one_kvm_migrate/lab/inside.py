"""The running demo guest, seen from inside through its agent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import VerifyError
from one_kvm_migrate.proof.agent import GuestAgent
from one_kvm_migrate.proof.link import open_link

QUESTION_TIMEOUT_S = 60.0
# What the kernel keeps before it counts MemTotal, with room for a larger kernel.
RESERVED_MIB = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large the guest finds itself."""

    nproc: int
    memory_total_mib: int

    def __str__(self) -> str:
        return f"nproc {self.nproc}, MemTotal {self.memory_total_mib} MiB"

    def as_dict(self) -> dict[str, int]:
        """Plain JSON data."""
        return asdict(self)


class Inside:
    """Questions to the guest. Each raises VerifyError when it does not answer."""

    def __init__(self, agent: GuestAgent, domain_type: str) -> None:
        self._agent = agent
        self.domain_type = domain_type

    @classmethod
    @contextmanager
    def open(cls, uri: str, domain: str) -> "Iterator[Inside]":
        """Connect to *domain* at *uri* and wait until its agent answers."""
        deadline = Deadline(QUESTION_TIMEOUT_S)
        with open_link(uri, domain, deadline=deadline) as link:
            agent = GuestAgent(link)
            wait_until(agent.alive, deadline, what="the guest agent")
            yield cls(agent, link.domain_type())

    def sha256(self, path: str) -> str:
        """Digest of a file, worked out by the guest."""
        return self._ask("sha256sum", path).split()[0]

    def mac(self) -> str:
        """Hardware address of the first network adapter."""
        return self._ask("cat", "/sys/class/net/eth0/address").strip()

    def shape(self) -> Shape:
        """Processors online and memory, now."""
        for line in self._ask("cat", "/proc/meminfo").splitlines():
            key, _, value = line.partition(":")
            if key == "MemTotal":
                total_mib = int(value.split()[0]) // 1024
                return Shape(nproc=int(self._ask("nproc")), memory_total_mib=total_mib)
        raise VerifyError("the guest has no MemTotal")

    def settled_shape(self, memory_mib: int, *, deadline: Deadline) -> Shape:
        """The shape once the balloon has brought the guest down to *memory_mib*."""

        def settled() -> Shape | None:
            now = self.shape()
            return now if memory_mib - RESERVED_MIB <= now.memory_total_mib <= memory_mib else None

        return wait_until(settled, deadline, what=f"the guest to settle at {memory_mib} MiB")

    def _ask(self, *argv: str) -> str:
        answer = self._agent.run(list(argv), deadline=Deadline(QUESTION_TIMEOUT_S))
        if answer.rc != 0:
            raise VerifyError(f"{argv[0]} failed in the guest: {answer.stderr.strip()}")
        return answer.stdout
