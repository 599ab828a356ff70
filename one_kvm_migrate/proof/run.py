"""The proof of a VM that OpenNebula runs: from its document to the verdict."""

from pathlib import Path
from typing import Any

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import VncFailed
from one_kvm_migrate.opennebula.vms import Running
from one_kvm_migrate.proof.boot import ProofTarget, prove
from one_kvm_migrate.proof.vnc import VncEndpoint

EVERYWHERE = ("", "0.0.0.0", "::")


def prove_vm(
    running: Running, *, libvirt_uri: str | None, deadline: Deadline, work_dir: Path
) -> dict[str, Any]:
    """Verdict and facts about *running* as plain data; the screenshot lands in *work_dir*.

    ``{host}`` in *libvirt_uri* stands for the VM's host. A console that listens everywhere is
    looked for on that host, any other where it listens. Raises as ``boot.prove`` does.
    """
    if not running.vnc_port:
        raise VncFailed(
            f"VM {running.vm_id} has no VNC console", hint="Its template needs GRAPHICS."
        )
    target = ProofTarget(
        domain=running.deploy_id,
        vnc=VncEndpoint(
            host=running.host if running.vnc_listen in EVERYWHERE else running.vnc_listen,
            port=running.vnc_port,
            password=running.vnc_password,
        ),
        libvirt_uri=libvirt_uri.replace("{host}", running.host) if libvirt_uri else None,
    )
    return prove(target, deadline=deadline, workdir=work_dir).as_dict()
