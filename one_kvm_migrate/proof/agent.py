"""The QEMU guest agent, through libvirt: what the guest itself says.

Whatever it answers comes from inside the guest: data to show, never to trust.
"""

import base64
import json
import math
from dataclasses import dataclass
from typing import Any

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import VerifyError
from one_kvm_migrate.proof.link import DomainLink, translated

PING_TIMEOUT_S = 3
MAX_OUTPUT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """A program that ended inside the guest."""

    rc: int
    stdout: str
    stderr: str


class GuestAgent:
    """Commands to the agent of one domain; each is bounded by the deadline given."""

    def __init__(self, link: DomainLink) -> None:
        self._link = link

    def alive(self) -> bool:
        """True if the agent answers a ping within 3 s."""
        try:
            self.command("guest-ping", deadline=Deadline(PING_TIMEOUT_S))
        except VerifyError:
            return False
        return True

    def command(
        self, name: str, arguments: dict[str, Any] | None = None, *, deadline: Deadline
    ) -> Any:
        """Run one agent command and give back its ``return`` value.

        Raises VerifyError when the agent is not there, does not answer or refuses.
        """
        import libvirt
        import libvirt_qemu

        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        seconds = max(1, math.ceil(deadline.left_s()))
        try:
            answer = libvirt_qemu.qemuAgentCommand(
                self._link.domain, json.dumps(request), seconds, 0
            )
        except libvirt.libvirtError as exc:
            raise translated(exc, f"run {name} in the guest") from exc
        return json.loads(answer)["return"]

    def facts(self, *, deadline: Deadline) -> dict[str, Any]:
        """What the guest is and has: ``os``, ``kernel``, ``hostname``, ``vcpus_online``."""
        system = self.command("guest-get-osinfo", deadline=deadline)
        return {
            "os": str(system.get("pretty-name", "unknown")),
            "kernel": str(system.get("kernel-release", "unknown")),
            "hostname": str(
                self.command("guest-get-host-name", deadline=deadline).get("host-name", "unknown")
            ),
            "vcpus_online": self.vcpus_online(deadline=deadline),
        }

    def vcpus_online(self, *, deadline: Deadline) -> int:
        """Processors the guest has switched on."""
        processors = self.command("guest-get-vcpus", deadline=deadline)
        return sum(1 for processor in processors if processor.get("online"))

    def run(self, argv: list[str], *, deadline: Deadline) -> ExecResult:
        """Run *argv* inside the guest and wait for its end. Output is cut at 1 MiB."""
        arguments = {"path": argv[0], "arg": argv[1:], "capture-output": True}
        pid = self.command("guest-exec", arguments, deadline=deadline)["pid"]

        def ended() -> dict[str, Any] | None:
            status = self.command("guest-exec-status", {"pid": pid}, deadline=deadline)
            return dict(status) if status["exited"] else None

        status = wait_until(ended, deadline, what=f"{argv[0]} in the guest", interval_s=0.1)
        return ExecResult(
            rc=int(status.get("exitcode", -int(status.get("signal", 1)))),
            stdout=_decoded(status, "out-data"),
            stderr=_decoded(status, "err-data"),
        )


def _decoded(status: dict[str, Any], key: str) -> str:
    data = base64.b64decode(status.get(key, ""))
    return data[:MAX_OUTPUT_BYTES].decode("utf-8", "replace")
