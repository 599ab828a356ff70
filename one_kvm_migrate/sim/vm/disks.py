"""DISK vectors: what oned adds to them, device names, and which image each one is."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.states import ImageState, ImageType
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template, is_yes
from one_kvm_migrate.sim.vm import imageuse

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

# oned.conf's DEFAULT_CDROM_DEVICE_PREFIX is gone in 7.x; context CDs get this one.
CDROM_PREFIX = "sd"
FROM_DATASTORE = ("ALLOW_ORPHANS", "CLONE_TARGET", "DISK_TYPE", "LN_TARGET", "PERSISTENT_SNAPSHOTS")


def is_image(disk: dict[str, str]) -> bool:
    """True for disks that come from an image, False for volatile ones."""
    return "IMAGE_ID" in disk or "IMAGE" in disk


def is_cdrom(disk: dict[str, str]) -> bool:
    """True for CDs, whose images are raw and read-only."""
    return disk.get("TYPE", "").upper().endswith("CDROM")


def describe(call: Call, disk: dict[str, str], image: Obj, disk_id: int) -> None:
    """Add to *disk* what *image* and its datastore say, as one.template.info does."""
    datastore = call.sim.store.get("datastore", image.number("DATASTORE_ID"))
    conf = datastore.template()
    own = image.template()
    persistent = image.number("PERSISTENT") == 1
    kind = ImageType(image.number("TYPE"))
    disk.update({key: conf.get(key) for key in FROM_DATASTORE if conf.has(key)})
    disk.setdefault("DEV_PREFIX", _prefix(call, own, kind))
    form = image.text("FORMAT")
    driver = own.get("DRIVER") or form or conf.get("DRIVER")
    disk.setdefault("DRIVER", driver)
    read_only = kind == ImageType.CDROM or is_yes(disk.get("READONLY", ""))
    size = image.text("SIZE")
    disk.update(
        {
            "CLONE": "NO" if persistent else "YES",
            "CLUSTER_ID": ",".join(str(i) for i in doc.ids(datastore.body, "CLUSTERS")),
            "DATASTORE": datastore.name,
            "DATASTORE_ID": str(datastore.oid),
            "DISK_ID": str(disk_id),
            "DISK_SNAPSHOT_TOTAL_SIZE": "0",
            "FORMAT": form,
            "IMAGE": image.name,
            "IMAGE_ID": str(image.oid),
            "IMAGE_STATE": image.text("STATE"),
            "ORIGINAL_SIZE": size,
            "READONLY": "YES" if read_only else "NO",
            "SAVE": "YES" if persistent else "NO",
            "SIZE": _size(disk.get("SIZE", ""), size),
            "SOURCE": image.text("SOURCE"),
            "TM_MAD": datastore.text("TM_MAD"),
            "TYPE": "CDROM" if kind == ImageType.CDROM else disk.get("DISK_TYPE", "FILE"),
        }
    )
    if persistent:
        disk["PERSISTENT"] = "YES"
    if own.get("TARGET"):
        disk.setdefault("TARGET", own.get("TARGET"))


def _prefix(call: Call, image: Template, kind: ImageType) -> str:
    if image.get("DEV_PREFIX"):
        return image.get("DEV_PREFIX")
    return CDROM_PREFIX if kind == ImageType.CDROM else call.sim.oned.get("DEFAULT_DEVICE_PREFIX")


def _size(asked: str, original: str) -> str:
    """A bigger SIZE in the template grows the copy; a smaller one is ignored."""
    return asked if asked.isdigit() and int(asked) > int(original or 0) else original


def take(
    call: Call, vm_id: int, disk: dict[str, str], disk_id: int, *, may_wait: bool = False
) -> None:
    """Complete *disk* and let machine *vm_id* have its image; volatile disks are described.

    If it *may_wait*, an image that is still being made is only described: see cloning.py.

    Raises OnedError(ALLOCATE) when the image is missing or busy, or a volatile disk has no SIZE.
    """
    if not is_image(disk):
        _volatile(call, disk, disk_id)
        return
    image = imageuse.find(call, disk)
    describe(call, disk, image, disk_id)
    if not (may_wait and image.number("STATE") == ImageState.LOCKED):
        disk["IMAGE_STATE"] = str(int(imageuse.acquire(call.sim, image, vm_id)))


def _volatile(call: Call, disk: dict[str, str], disk_id: int) -> None:
    size = disk.get("SIZE", "")
    if not size.isdigit() or int(size) <= 0:
        raise imageuse.refused("SIZE must be an integer greater than 0 for volatile disks.")
    swap = disk.get("TYPE", "").lower() == "swap"
    disk.setdefault("DEV_PREFIX", call.sim.oned.get("DEFAULT_DEVICE_PREFIX"))
    form = "raw" if swap else disk.get("FORMAT", "qcow2")
    disk.update({"DISK_ID": str(disk_id), "FORMAT": form, "DRIVER": form})
    disk["TYPE"] = "swap" if swap else "fs"


def give_back(sim: "Sim", vm_id: int, template: Template, *, failed: bool) -> None:
    """Release the images of all disks of machine *vm_id*."""
    for disk in template.vectors("DISK"):
        if disk.get("IMAGE_ID", "").isdigit():
            imageuse.release(sim, int(disk["IMAGE_ID"]), vm_id, failed=failed)


def assign_targets(template: Template) -> None:
    """Give every disk and the context CD a device name, in oned's order.

    First those that ask for a name, then the disks with a system, the context CD, other CDs,
    and the rest.
    """
    disks = template.vectors("DISK")
    used = {disk["TARGET"] for disk in disks if disk.get("TARGET")}
    for vector in _in_order(template):
        if not vector.get("TARGET"):
            vector["TARGET"] = free_target(vector.get("DEV_PREFIX", CDROM_PREFIX), used)
        used.add(vector["TARGET"])
    context = template.vector("CONTEXT")
    if context is not None:
        context.pop("DEV_PREFIX", None)


def _in_order(template: Template) -> Iterator[dict[str, str]]:
    disks = template.vectors("DISK")
    boots = [disk for disk in disks if is_image(disk) and not is_cdrom(disk)]
    yield from boots[:1]
    context = template.vector("CONTEXT")
    if context is not None:
        yield context
    yield from (disk for disk in disks if is_cdrom(disk))
    yield from boots[1:]
    yield from (disk for disk in disks if not is_image(disk))


def free_target(prefix: str, used: set[str]) -> str:
    """The first free name such as vdb; after z comes aa."""
    number = 0
    while (name := prefix + letters(number)) in used:
        number += 1
    return name


def letters(number: int) -> str:
    """a, b, …, z, aa, ab, … for 0, 1, …"""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def set_boot_order(template: Template) -> None:
    """ORDER of disks and NICs from OS/BOOT ("disk0,nic0"); any other ORDER is dropped."""
    for name in ("DISK", "NIC"):
        for vector in template.vectors(name):
            vector.pop("ORDER", None)
    system = template.vector("OS") or {}
    words = [word.strip() for word in system.get("BOOT", "").split(",")]
    for order, word in enumerate((word for word in words if word), 1):
        name, key = ("DISK", "DISK_ID") if word.startswith("disk") else ("NIC", "NIC_ID")
        number = word.removeprefix(name.lower())
        for vector in template.vectors(name):
            if vector.get(key) == number:
                vector["ORDER"] = str(order)


def by_id(template: Template, disk_id: int) -> dict[str, str] | None:
    """The DISK with that number (changing it changes *template*), or None."""
    wanted = str(disk_id)
    return next((d for d in template.vectors("DISK") if d.get("DISK_ID") == wanted), None)


def next_id(template: Template) -> int:
    """The number a new disk gets: one more than the highest, the context CD's included."""
    numbers = [int(disk["DISK_ID"]) for disk in template.vectors("DISK")]
    context = template.vector("CONTEXT") or {}
    if context.get("DISK_ID", "").isdigit():
        numbers.append(int(context["DISK_ID"]))
    return max(numbers, default=-1) + 1
