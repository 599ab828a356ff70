"""Makes a Plan: reads the sources, asks OpenNebula, measures. Nothing is written anywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.disks.convert import needed_bytes, require_space
from one_kvm_migrate.disks.estimate import estimate
from one_kvm_migrate.disks.origin import check_source, fingerprint, source_bytes
from one_kvm_migrate.errors import NoSpace, OkmError, Rejected, SourceUnsupported
from one_kvm_migrate.guest.hardware import Hardware, twin
from one_kvm_migrate.model import SourceDisk, SourceVm
from one_kvm_migrate.opennebula import images, templates
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.datastores import find_image_datastore
from one_kvm_migrate.opennebula.hosts import require_host
from one_kvm_migrate.opennebula.naming import safe_name
from one_kvm_migrate.opennebula.networks import Network, find_network, is_unicast, leased_macs
from one_kvm_migrate.opennebula.rights import require_source_right
from one_kvm_migrate.opennebula.vmtemplate import DEFAULT_MEMORY_MIB, TemplateOptions
from one_kvm_migrate.pipeline.plan import (
    DiskPlan,
    FailedSource,
    MachinePlan,
    Plan,
    Refusal,
    RunOptions,
)
from one_kvm_migrate.sources.base import inspect

MEASURE_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks to move, and where to. Names or ids as the user gave them."""

    sources: tuple[Path, ...]
    datastore: str
    network: str | None
    name: str | None
    options: RunOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What exists already, asked once for the whole plan."""

    images: dict[str, int]
    templates: dict[str, int]
    macs: set[str]


def make_plan(client: Client, request: Request) -> Plan:
    """The plan for *request*.

    Raises what makes the whole run impossible (AuthError, Unreachable, Rejected, ConfigError,
    NoSpace); what speaks against one source or machine becomes a Refusal in the plan.
    """
    require_source_right(client)
    datastore = find_image_datastore(client, request.datastore)
    network = find_network(client, request.network) if request.network is not None else None
    taken = _Taken(
        images=images.names(client, client.user),
        templates=templates.names(client, client.user),
        macs=leased_macs(client, network.id) if network is not None else set(),
    )
    machines: list[MachinePlan] = []
    failed: list[FailedSource] = []
    for path in request.sources:
        try:
            found = inspect(path)
        except OkmError as exc:
            failed.append(FailedSource(path=str(path), refusal=_refusal(exc)))
            continue
        for vm in found:
            machines.append(_machine(len(machines), vm, request, network, taken))
    plan = Plan(
        endpoint=client.endpoint,
        user=client.user,
        datastore=datastore,
        network=network,
        options=request.options,
        machines=tuple(_refuse_twins(machines, macs=_keeps_macs(network, request))),
        failed_sources=tuple(failed),
    )
    if plan.movable:
        _require_room(plan)
        if request.options.instantiate:
            require_host(client, request.options.host)
    return plan


def _require_room(plan: Plan) -> None:
    """Raise NoSpace unless all images fit, each at its worst."""
    datastore = plan.datastore
    needed = sum(disk.needed_bytes for machine in plan.movable for disk in machine.disks)
    require_space(Path(datastore.base_path), needed)
    if datastore.limit_bytes is not None and needed > datastore.limit_bytes:
        raise NoSpace(
            f"datastore {datastore.name} below its LIMIT_MB",
            needed_bytes=needed,
            free_bytes=datastore.limit_bytes,
        )


def _machine(
    index: int, vm: SourceVm, request: Request, network: Network | None, taken: _Taken
) -> MachinePlan:
    asked = request.name or vm.name
    name = safe_name(asked)
    hardware = twin(vm)
    refusals = [Refusal(message=text, exit_code=_refusal_code(vm)) for text in vm.refusals]
    disks: list[DiskPlan] = []
    if not vm.disks:
        refusals.append(_refusal(SourceUnsupported(f"machine {vm.name} has no hard disk")))
    if not refusals:
        for number, disk in enumerate(vm.disks):
            try:
                disks.append(
                    _disk(number, disk, _image_name(name, number, len(vm.disks)), hardware)
                )
            except OkmError as exc:
                refusals.append(_refusal(exc))
        refusals += _name_refusals(taken, name, disks)
        if _keeps_macs(network, request):
            refusals += _mac_refusals(taken, vm)
    return MachinePlan(
        index=index,
        vm=vm,
        hardware=hardware,
        name=name,
        disks=tuple(disks),
        warnings=tuple(
            [
                *vm.warnings,
                *hardware.notes,
                *_warnings(vm, name, asked, network, request.options.template),
            ]
        ),
        refusals=tuple(refusals),
    )


def _disk(index: int, disk: SourceDisk, image_name: str, hardware: Hardware) -> DiskPlan:
    check_source(disk)
    guess = estimate(disk)
    return DiskPlan(
        index=index,
        source=disk,
        fingerprint=fingerprint(disk),
        image_name=image_name,
        dev_prefix=hardware.dev_prefixes[index],
        source_bytes=source_bytes(disk),
        needed_bytes=needed_bytes(disk, deadline=Deadline(MEASURE_TIMEOUT_S)),
        estimate_bytes=guess.file_bytes,
        estimate_s=guess.seconds,
    )


def _refusal_code(vm: SourceVm) -> int:
    """Exit status of a machine the source reader refuses: that of its first unusable disk."""
    for disk in vm.disks:
        try:
            check_source(disk)
        except OkmError as exc:
            return exc.exit_code
    return SourceUnsupported.exit_code


def _image_name(machine_name: str, index: int, count: int) -> str:
    return machine_name if count == 1 else f"{machine_name}-disk{index}"


def _name_refusals(taken: _Taken, name: str, disks: Iterable[DiskPlan]) -> list[Refusal]:
    wanted = [("template", name, taken.templates.get(name))]
    wanted += [("image", disk.image_name, taken.images.get(disk.image_name)) for disk in disks]
    holders = [f"{kind} {holder}" for kind, _, holder in wanted if holder is not None]
    if not holders:
        return []
    return [
        _refusal(
            Rejected(
                f"the name {name} is already taken by {' and '.join(holders)}",
                hint="Give another name with --name, or roll the run back that made them "
                "(one-kvm-migrate runs).",
            )
        )
    ]


def _mac_refusals(taken: _Taken, vm: SourceVm) -> list[Refusal]:
    wrong = [
        (nic.mac, "is already in use in the network", "End the machine that has it")
        for nic in vm.nics
        if nic.mac in taken.macs
    ]
    wrong += [
        (nic.mac, "is no address of a network adapter", "Correct it in VirtualBox")
        for nic in vm.nics
        if nic.mac and not is_unicast(nic.mac)
    ]
    return [
        _refusal(Rejected(f"the MAC address {mac} {why}", hint=f"{what}, or use --new-mac."))
        for mac, why, what in wrong
    ]


def _warnings(
    vm: SourceVm, name: str, asked: str, network: Network | None, limits: TemplateOptions
) -> list[str]:
    warnings = []
    if name != asked:
        warnings.append(f"OpenNebula does not take the name {asked!r}, it becomes {name}")
    if vm.nics and network is None:
        warnings.append(f"{len(vm.nics)} network adapter(s) left out: no --network given")
    for what, limit, size in (
        ("--memory-max", limits.memory_max_mib, vm.memory_mib or DEFAULT_MEMORY_MIB),
        ("--vcpu-max", limits.vcpu_max, vm.vcpus),
    ):
        if limit is not None and limit < size:
            warnings.append(f"{what} {limit} is below what the machine has, {size} is used")
    return warnings


def _keeps_macs(network: Network | None, request: Request) -> bool:
    return network is not None and request.options.template.keep_mac


def _refuse_twins(machines: Sequence[MachinePlan], *, macs: bool) -> list[MachinePlan]:
    """Refuse what clashes within the run: names of machines and images, MAC addresses."""
    seen: set[tuple[str, str]] = set()
    result = []
    for machine in machines:
        keys = [("machine name", machine.name)]
        keys += [("image name", disk.image_name) for disk in machine.disks]
        if macs:
            keys += [("MAC address", nic.mac) for nic in machine.vm.nics if nic.mac]
        clashes = [key for number, key in enumerate(keys) if key in seen or key in keys[:number]]
        twins = tuple(
            _refusal(
                Rejected(
                    f"the {kind} {value} of {machine.name} is used twice in this run",
                    hint="Run the machines one by one with --name or --new-mac.",
                )
            )
            for kind, value in clashes
        )
        result.append(replace(machine, refusals=(*machine.refusals, *twins)))
        if not result[-1].refusals:
            seen.update(keys)
    return result


def _refusal(exc: OkmError) -> Refusal:
    return Refusal(message=exc.sentence(), exit_code=exc.exit_code)
