"""The demo guest's root file system: a busybox initramfs with the guest agent.

Everything lives in memory; only ``/data`` comes from the disk. Written as a cpio archive
straight from Python, so that no root rights and no mounts are needed.
"""

import gzip
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import EnvironmentMissing
from one_kvm_migrate.lab.packages import Kit
from one_kvm_migrate.tools.run import run

BUSYBOX = Path("/bin/busybox")
READY_MARK = "OKM-GUEST-READY"
DATA_LABEL = "OKMDATA"

_DIRECTORIES = (
    "bin",
    "dev",
    "etc/acpi/PWRF",
    "lib",
    "lib64",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr/bin",
    "usr/sbin",
    "var/run",
    "var/log",
    "data",
)

_INIT = """#!/bin/sh
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
exec /sbin/init
"""

_INITTAB = """::sysinit:/etc/rc
ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100
tty1::respawn:/sbin/getty 38400 tty1 linux
::respawn:/etc/agent
::respawn:/sbin/acpid -d -l /dev/null
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
"""

# Bus drivers create the devices of the next pass, hence three of them.
_RC = f"""#!/bin/sh
for pass in 1 2 3; do
  find /sys/devices -name modalias -exec cat {{}} + 2>/dev/null | sort -u >/tmp/modalias
  xargs modprobe -b -a </tmp/modalias 2>/dev/null
done
modprobe -a sd_mod evdev button 2>/dev/null
ip link set lo up
data=$(findfs LABEL={DATA_LABEL} 2>/dev/null)
[ -n "$data" ] && modprobe -a crc32c_generic ext4 && mount -t ext4 -o ro "$data" /data
/etc/net &
(printf '\\033[2J\\033[H'; cat /etc/banner; echo "  {READY_MARK} $(hostname)"; echo) >/dev/tty1
echo "{READY_MARK} $(hostname)" >/dev/ttyS0
"""

# A NIC without a DHCP server gets a link-local address made from its hardware address.
_NET = """#!/bin/sh
nic=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
[ -n "$nic" ] || exit 0
ip link set "$nic" up
udhcpc -s /etc/udhcpc -i "$nic" -n -q -t 4 -T 1 >/dev/null 2>&1 && exit 0
set -- $(sed 's/:/ /g' "/sys/class/net/$nic/address")
ip addr add "169.254.$((0x$5 % 254 + 1)).$((0x$6 % 254 + 1))/16" dev "$nic"
"""

_DHCP = """#!/bin/sh
case "$1" in
bound|renew)
  ip addr flush dev "$interface"
  ip addr add "$ip/${mask:-24}" dev "$interface"
  [ -n "$router" ] && ip route add default via "${router%% *}" ;;
esac
exit 0
"""

# The channel's name is only in sysfs: there is no udev here to make the usual link.
_AGENT = """#!/bin/sh
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
  exec /usr/sbin/qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /var/run
done
sleep 5
"""

# The guest agent calls shutdown(8) with -P, -H or -r.
_SHUTDOWN = """#!/bin/sh
case "$*" in
*-r*) exec /sbin/reboot ;;
*) exec /sbin/poweroff ;;
esac
"""

_BANNER = """
 \033[1;37;44m  one-kvm-migrate demo guest                          \033[0m

  \033[1;32mThis machine was made for VirtualBox.\033[0m
  \033[1;33mIf you read this, it runs: kernel, disk, console.\033[0m

"""

_ISSUE = """\\n login on \\l (user root, no password)

"""

_OS_RELEASE = """ID=okm-demo
NAME="one-kvm-migrate demo guest"
PRETTY_NAME="one-kvm-migrate demo guest 1"
VERSION_ID=1
"""

_TEXTS = {
    "init": (_INIT, 0o755),
    "etc/inittab": (_INITTAB, 0o644),
    "etc/rc": (_RC, 0o755),
    "etc/net": (_NET, 0o755),
    "etc/agent": (_AGENT, 0o755),
    "etc/banner": (_BANNER, 0o644),
    "etc/issue": (_ISSUE, 0o644),
    "etc/os-release": (_OS_RELEASE, 0o644),
    "etc/passwd": ("root::0:0:root:/root:/bin/sh\n", 0o644),
    "etc/group": ("root:x:0:\n", 0o644),
    "etc/acpi/PWRF/00000080": ("#!/bin/sh\nexec /sbin/poweroff\n", 0o755),
    "sbin/shutdown": (_SHUTDOWN, 0o755),
    "etc/udhcpc": (_DHCP, 0o755),
}


def initramfs(kit: Kit, *, deadline: Deadline) -> Path:
    """The compressed initramfs made from *kit*, kept beside it and made when it is missing.

    Its name carries a digest of the scripts above: a changed script is never missed. Safe when
    several processes call at once. Raises EnvironmentMissing, ToolFailed.
    """
    scripts = hashlib.sha256(repr(sorted(_TEXTS.items())).encode()).hexdigest()[:12]
    out = kit.kernel.with_name(f"initrd-{scripts}.img")
    if out.exists():
        return out
    archive = bytearray()
    for number, (name, mode, data) in enumerate(_entries(kit, deadline), start=1):
        archive += _cpio_entry(number, name, mode, data)
    archive += _cpio_entry(0, "TRAILER!!!", 0, b"")
    partial = out.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(gzip.compress(bytes(archive), compresslevel=9, mtime=0))
    partial.rename(out)
    return out


def _entries(kit: Kit, deadline: Deadline) -> Iterator[tuple[str, int, bytes]]:
    files: dict[str, tuple[bytes, int]] = {
        name: (text.encode(), mode) for name, (text, mode) in _TEXTS.items()
    }
    if not BUSYBOX.exists():
        raise EnvironmentMissing(f"{BUSYBOX} is missing", hint="Install busybox-static.")
    files["bin/busybox"] = (BUSYBOX.read_bytes(), 0o755)
    files["usr/sbin/qemu-ga"] = (kit.agent.read_bytes(), 0o755)
    for library in _libraries(kit.agent, deadline):
        files[str(library).lstrip("/")] = (library.read_bytes(), 0o755)
    for path in sorted(kit.modules.rglob("*")):
        if path.is_file() and not path.name.endswith(".bin"):
            files[f"lib/modules/{path.relative_to(kit.modules)}"] = (path.read_bytes(), 0o644)
    names = [*files, *(f"{folder}/." for folder in _DIRECTORIES)]
    folders = {str(parent) for name in names for parent in PurePosixPath(name + "x").parents}
    for folder in sorted(folders - {"."}):
        yield folder, stat.S_IFDIR | 0o755, b""
    yield "bin/sh", stat.S_IFLNK | 0o777, b"busybox"
    for name, (data, mode) in sorted(files.items()):
        yield name, stat.S_IFREG | mode, data


def _libraries(program: Path, deadline: Deadline) -> list[Path]:
    listed = run(["ldd", str(program)], deadline=deadline).stdout.decode()
    if "not found" in listed:
        raise EnvironmentMissing(
            "a library of the guest agent is not installed", hint="Install qemu-system-x86."
        )
    return [Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(", listed, re.MULTILINE)]


def _cpio_entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
