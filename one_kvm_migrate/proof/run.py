"""The proof of a VM that OpenNebula runs: from its document to the verdict."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import ToolFailed, VerifyError, VncFailed
from one_kvm_migrate.opennebula.vms import Running
from one_kvm_migrate.proof.boot import PROVEN, ProofTarget, prove
from one_kvm_migrate.proof.vnc import VncEndpoint
from one_kvm_migrate.tools.ssh import LOOPBACK, forwarded, is_local

EVERYWHERE = ("", "0.0.0.0", "::")
TUNNEL_TIMEOUT_S = 30.0


def prove_vm(
    running: Running, *, libvirt_uri: str | None, deadline: Deadline, work_dir: Path
) -> dict[str, Any]:
    """Verdict and facts about *running* as plain data; the screenshot lands in *work_dir*.

    ``{host}`` in *libvirt_uri* stands for the VM's host; without one it is the system libvirt
    of that host, over ssh if the host is another. A console that listens everywhere is looked
    for on that host; one on another host's loopback is reached through ssh; any other where
    it listens. Raises as ``boot.prove`` does, and VerifyError when libvirt cannot be asked: a
    drawn screen may be the firmware saying that it finds no disk.
    """
    if not running.vnc_port:
        raise VncFailed(f"{label(running)} has no VNC console", hint="Its template needs GRAPHICS.")
    with _console(running) as endpoint:
        target = ProofTarget(
            domain=running.deploy_id,
            vnc=endpoint,
            libvirt_uri=_libvirt(running, libvirt_uri),
            label=label(running),
        )
        proof = prove(target, deadline=deadline, workdir=work_dir)
    if proof.verdict != PROVEN:
        reason = proof.agent.get("reason", "no libvirt")
        raise VerifyError(
            f"{label(running)} draws a screen ({proof.vnc['screenshot']}), but nothing could "
            f"ask for a sign of life: {reason}",
            hint="Give the host's libvirt: resume with --libvirt-uri URI.",
        )
    return proof.as_dict()


def label(running: Running) -> str:
    """The VM as OpenNebula numbers it and as libvirt names it, for sentences."""
    return f"VM {running.vm_id} (one-{running.vm_id})"


def _libvirt(running: Running, uri: str | None) -> str:
    if uri is not None:
        return uri.replace("{host}", running.host)
    if is_local(running.host):
        return "qemu:///system"
    return f"qemu+ssh://{running.host}/system?no_tty=1"


@contextmanager
def _console(running: Running) -> Iterator[VncEndpoint]:
    listen = running.host if running.vnc_listen in EVERYWHERE else running.vnc_listen
    port = running.vnc_port
    if not _is_loopback(listen) or is_local(running.host):
        yield VncEndpoint(host=listen, port=port, password=running.vnc_password)
        return
    try:
        with forwarded(running.host, port, deadline=Deadline(TUNNEL_TIMEOUT_S)) as local:
            yield VncEndpoint(host=LOOPBACK, port=local, password=running.vnc_password)
    except ToolFailed as exc:
        raise VncFailed(
            f"the console of {label(running)} listens on {running.host} only for itself, "
            f"and ssh cannot get there: {exc.stderr_tail.strip()}",
            hint="Let this user log in there by key, or run with --listen ADDRESS.",
        ) from exc


def _is_loopback(listen: str) -> bool:
    try:
        return ip_address(listen).is_loopback
    except ValueError:
        return listen == "localhost"
