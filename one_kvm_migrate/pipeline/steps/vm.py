"""Template and VM steps, and the proof that the machine works."""

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.opennebula import templates, vms, vmtemplate
from one_kvm_migrate.opennebula.hosts import find_host
from one_kvm_migrate.pipeline.steps.base import RPC_WAIT_S, Result, StepContext


class TemplateStep:
    """Write the KVM template."""

    name = "template"

    def act(self, ctx: StepContext) -> Result:
        """Allocate the template with the ids of the images registered before."""
        ids = tuple(ctx.results[f"register:{disk.index}"]["image_id"] for disk in ctx.machine.disks)
        attributes = vmtemplate.attributes(
            ctx.machine.vm,
            ctx.machine.hardware,
            name=ctx.machine.name,
            image_ids=ids,
            network_id=ctx.plan.network.id if ctx.plan.network else None,
            options=ctx.plan.options.template,
        )
        return {"template_id": templates.create(ctx.client, attributes, ctx.marker(self.name))}

    def recover(self, ctx: StepContext) -> Result | None:
        """Look the template up by its mark."""
        number = templates.find_by_marker(ctx.client, ctx.marker(self.name), ctx.machine.name)
        return None if number is None else {"template_id": number}

    def undo(self, ctx: StepContext) -> None:
        """Delete the template."""
        templates.delete(ctx.client, ctx.marker(self.name), ctx.machine.name)


class InstantiateStep:
    """Make the VM, on the asked host if there is one, else wherever the scheduler puts it."""

    name = "instantiate"

    def act(self, ctx: StepContext) -> Result:
        """Instantiate the template."""
        number = templates.instantiate(
            ctx.client,
            ctx.results["template"]["template_id"],
            ctx.machine.name,
            ctx.marker(self.name),
            hold=ctx.plan.options.host is not None,
        )
        return {"vm_id": number}

    def recover(self, ctx: StepContext) -> Result | None:
        """Look the VM up by its mark."""
        number = vms.find_by_marker(ctx.client, ctx.marker(self.name))
        return None if number is None else {"vm_id": number}

    def undo(self, ctx: StepContext) -> None:
        """Terminate the VM and wait until its disks are given back."""
        vms.terminate(ctx.client, ctx.marker(self.name), Deadline(RPC_WAIT_S))


class RunningStep:
    """See the VM reach RUNNING. Makes nothing, so there is nothing to recover or undo."""

    name = "running"

    def act(self, ctx: StepContext) -> Result:
        """Deploy if a host was asked for, then wait for RUNNING."""
        vm_id = ctx.results["instantiate"]["vm_id"]
        options = ctx.plan.options
        if options.host is not None and vms.is_waiting(ctx.client, vm_id):
            vms.deploy(ctx.client, vm_id, find_host(ctx.client, options.host))
        running = vms.wait_running(ctx.client, vm_id, Deadline(options.boot_timeout_s))
        return {
            "vm_state": "RUNNING",
            "host": running.host,
            "deploy_id": running.deploy_id,
            "vnc": {"listen": running.vnc_listen, "port": running.vnc_port},
        }

    def recover(self, ctx: StepContext) -> Result | None:
        """Give a VM that failed to start another chance; waiting again is right then."""
        vms.try_again(ctx.client, ctx.results["instantiate"]["vm_id"])
        return None

    def undo(self, ctx: StepContext) -> None:
        """Nothing was made."""


class ProveStep:
    """Prove that the guest came up: console over VNC, sign of life by agent or serial line."""

    name = "prove"

    def act(self, ctx: StepContext) -> Result:
        """Run the proof; the result is its verdict with facts, never a password."""
        from one_kvm_migrate.proof.run import prove_vm

        running = vms.wait_running(
            ctx.client, ctx.results["instantiate"]["vm_id"], Deadline(RPC_WAIT_S)
        )
        ctx.work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return prove_vm(
            running,
            libvirt_uri=ctx.plan.options.libvirt_uri,
            deadline=Deadline(ctx.plan.options.boot_timeout_s),
            work_dir=ctx.work_dir,
        )

    def recover(self, ctx: StepContext) -> Result | None:
        """A proof is taken again."""
        return None

    def undo(self, ctx: StepContext) -> None:
        """Remove the screenshot folder; the machine itself is undone by other steps."""
        from shutil import rmtree

        rmtree(ctx.work_dir, ignore_errors=True)
