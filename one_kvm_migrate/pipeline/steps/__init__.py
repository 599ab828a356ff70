"""What happens to one machine, in order. A machine's steps are data: see ``machine_steps``."""

from one_kvm_migrate.pipeline.plan import MachinePlan, Plan
from one_kvm_migrate.pipeline.steps.base import Step
from one_kvm_migrate.pipeline.steps.disk import ConvertStep, RegisterStep
from one_kvm_migrate.pipeline.steps.network import MacStep
from one_kvm_migrate.pipeline.steps.vm import InstantiateStep, ProveStep, RunningStep, TemplateStep


def machine_steps(plan: Plan, machine: MachinePlan) -> list[Step]:
    """The steps of *machine*; undoing goes through them backwards."""
    steps: list[Step] = []
    for disk in machine.disks:
        steps += [ConvertStep(disk), RegisterStep(disk)]
    if plan.network is not None and plan.options.template.keep_mac:
        network = plan.network.id
        nics = enumerate(machine.vm.nics)
        steps += [MacStep(number, nic.mac, network) for number, nic in nics if nic.mac]
    steps.append(TemplateStep())
    if plan.options.instantiate:
        steps += [InstantiateStep(), RunningStep()]
        if plan.options.prove:
            steps.append(ProveStep())
    return steps
