"""What a step is, and what it may see."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from one_kvm_migrate.disks.convert import Progress, ignore_progress
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.markers import Marker
from one_kvm_migrate.pipeline.plan import MachinePlan, Plan

Result = dict[str, Any]

# Long enough for an image server under load; a hung oned must still end the run.
RPC_WAIT_S = 120.0
CONVERT_TIMEOUT_S = 7 * 24 * 3600.0


@dataclass(slots=True, kw_only=True)
class StepContext:
    """One machine of one run. ``results`` holds the results of the steps done so far."""

    client: Client
    run_id: str
    plan: Plan
    machine: MachinePlan
    work_dir: Path
    results: dict[str, Result] = field(default_factory=dict)
    on_progress: Progress = ignore_progress

    def marker(self, step: str) -> Marker:
        """The mark of this machine's *step* on objects in OpenNebula."""
        return Marker(run_id=self.run_id, step=f"{self.machine.index}/{step}")


class Step(Protocol):
    """One effect. Every method may be called again after a kill at any point."""

    @property
    def name(self) -> str:
        """Unique within the machine; kept in the journal."""

    def act(self, ctx: StepContext) -> Result:
        """Do it and return what the journal keeps (plain JSON)."""

    def recover(self, ctx: StepContext) -> Result | None:
        """After a kill: the result if the effect is there, None if it must be done again."""

    def undo(self, ctx: StepContext) -> None:
        """Remove the effect, found by its mark: it may have been killed before it was known."""
