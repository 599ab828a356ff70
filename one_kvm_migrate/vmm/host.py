"""Questions about this host that the changes to a domain depend on."""

import errno
import fcntl
import os

import libvirt

from one_kvm_migrate.vmm.conn import reason

KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_API_VERSION = 12


def link_target(path: str) -> str | None:
    """What the symbolic link *path* points at, one step; None if it is none or dangles."""
    try:
        target = os.path.join(os.path.dirname(path), os.readlink(path))
    except OSError:
        return None
    return target if os.path.exists(target) else None


def direct_works(path: str) -> bool:
    """True unless the file system of *path* refuses O_DIRECT."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError as error:
        return error.errno != errno.EINVAL
    return True


def kvm_obstacle(conn: "libvirt.virConnect", emulator: str | None, device: str = "/dev/kvm") -> str:
    """Why domains of type kvm cannot run here; "" when they can."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        fd = -1  # QEMU runs as another user, who may; libvirt knows
    except OSError as error:
        return f"{device}: {error.strerror}"
    if fd >= 0:
        try:
            if fcntl.ioctl(fd, KVM_GET_API_VERSION) != KVM_API_VERSION:
                return f"{device} has an unknown interface version"
            os.close(fcntl.ioctl(fd, KVM_CREATE_VM, 0))
        except OSError as error:
            return f"{device}: {error.strerror}"
        finally:
            os.close(fd)
    try:
        conn.getDomainCapabilities(emulator, None, None, "kvm", 0)
    except libvirt.libvirtError as error:
        return reason(error)
    return ""
