"""What a run would do, decided before a byte is copied. Plans are data and survive as JSON."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cattrs

from one_kvm_migrate.disks.origin import Fingerprint
from one_kvm_migrate.errors import JournalError
from one_kvm_migrate.guest.hardware import Hardware
from one_kvm_migrate.model import SourceDisk, SourceVm
from one_kvm_migrate.opennebula.datastores import Datastore
from one_kvm_migrate.opennebula.networks import Network
from one_kvm_migrate.opennebula.vmtemplate import TemplateOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the administrator asked for. ``libvirt_uri`` may hold ``{host}``."""

    instantiate: bool = True
    prove: bool = True
    persistent: bool = True
    host: str | None = None
    libvirt_uri: str | None = None
    boot_timeout_s: float = 300.0
    template: TemplateOptions = field(default_factory=TemplateOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a machine or source will not be moved, and the exit status that stands for it."""

    message: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """One disk to be converted. Sizes in bytes; ``needed_bytes`` is the worst case."""

    index: int
    source: SourceDisk
    fingerprint: Fingerprint
    image_name: str
    dev_prefix: str
    source_bytes: int
    needed_bytes: int
    estimate_bytes: int
    estimate_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """One machine: what was found, what it becomes, what speaks against it."""

    index: int
    vm: SourceVm
    hardware: Hardware
    name: str
    disks: tuple[DiskPlan, ...]
    warnings: tuple[str, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedSource:
    """A source that could not be read at all."""

    path: str
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run needs besides the credentials."""

    endpoint: str
    user: str
    datastore: Datastore
    network: Network | None
    options: RunOptions
    machines: tuple[MachinePlan, ...]
    failed_sources: tuple[FailedSource, ...]

    @property
    def movable(self) -> tuple[MachinePlan, ...]:
        """The machines nothing speaks against."""
        return tuple(machine for machine in self.machines if not machine.refusals)

    def refusals(self) -> list[tuple[str, Refusal]]:
        """All refusals of all sources: (machine or path, refusal)."""
        listed = [(failed.path, failed.refusal) for failed in self.failed_sources]
        for machine in self.machines:
            listed += [(machine.name, refusal) for refusal in machine.refusals]
        return listed

    def digest(self) -> str:
        """SHA-256 over what the plan would do; estimates do not count."""
        machines = tuple(
            replace(
                machine,
                disks=tuple(replace(d, estimate_bytes=0, estimate_s=0.0) for d in machine.disks),
            )
            for machine in self.machines
        )
        return hashlib.sha256(dump(replace(self, machines=machines)).encode()).hexdigest()


def file_name(run_id: str, machine: int, disk: int) -> str:
    """Name of an image file in the datastore: unique, and tells run, machine and disk."""
    return f"okm-{run_id}-{machine}-{disk}"


def target_path(plan: Plan, run_id: str, machine: int, disk: int) -> Path:
    """Where the image file lies for this process."""
    return Path(plan.datastore.base_path) / file_name(run_id, machine, disk)


def dump(plan: Plan) -> str:
    """*plan* as JSON text."""
    return json.dumps(_converter().unstructure(plan), sort_keys=True)


def load(text: str) -> Plan:
    """The plan that ``dump`` wrote. Raises JournalError when it is something else."""
    try:
        return _converter().structure(json.loads(text), Plan)
    except (ValueError, TypeError, KeyError, cattrs.BaseValidationError) as exc:
        raise JournalError(
            "the plan in the journal is damaged or of another version of this program",
            hint="Use the version that made the run, or a backup of the journal.",
        ) from exc


def as_data(value: Any) -> Any:
    """Any plan part as plain JSON data: enums as text, tuples as lists."""
    return json.loads(json.dumps(_converter().unstructure(value)))


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    # SourceVm.graphics and .snapshots are free-form JSON data already.
    converter.register_structure_hook(Any, lambda value, _type: value)
    return converter
