"""one.image.* and one.imagepool.*; the file work is queued by objects/imagework."""

import time
from dataclasses import dataclass

from one_kvm_migrate.sim import auth, doc, imagefiles, quotas
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import common, datastores, imagework
from one_kvm_migrate.sim.states import ImageState, ImageType
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template, is_yes

NO_CLONE = -1
FILES = (ImageType.KERNEL, ImageType.RAMDISK, ImageType.CONTEXT)
BUSY = (ImageState.LOCKED, ImageState.LOCKED_USED, ImageState.LOCKED_USED_PERS)
USED = (ImageState.USED, ImageState.USED_PERS, *BUSY[1:])
LOCKED_TEXT = (
    "Image locked, use --force flag to remove the image. Force delete may leave some files on "
    "Datastore"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image about to be written; ``template`` is what stays of the user's template."""

    name: str
    type: ImageType
    datastore: Obj
    template: Template
    size_mib: int
    persistent: bool = False
    source: str = ""
    path: str = ""
    format: str = ""
    file_system: str = ""
    cloning_id: int = NO_CLONE


def allocate(call: Call, text: str, ds_id: int, no_check: bool = False) -> int:
    """one.image.allocate"""
    template = common.parse(text)
    datastore = call.sim.store.get("datastore", ds_id)
    if datastore.number("TYPE") not in (datastores.IMAGE_DS, datastores.FILE_DS):
        raise OnedError(Code.ALLOCATE, "New images cannot be allocated in a system datastore.")
    size = _size(call, template, datastore)
    if not (no_check and call.is_admin):
        _require_space(call, datastore, size)
    auth.require_unrestricted(call, "image", template)
    auth.require_create(call, "image")
    auth.require(call, Right.USE, datastore)
    new = _described(call, template, datastore, size)
    common.require_new_name(call, "image", new.name, call.uid)
    return insert(call, new).oid


def _size(call: Call, template: Template, datastore: Obj) -> int:
    path = template.get("PATH")
    if path and not template.get("SOURCE"):
        where = imagework.place(call.sim, datastore)
        try:
            return imagefiles.size_mib(call.sim.processes, where, path)
        except imagefiles.DriverFailed as exc:
            raise _no_size(str(exc)) from exc
    size = template.get("SIZE")
    if not size.isdigit():
        raise _no_size("Wrong number or missing SIZE attribute.")
    return int(size)


def _no_size(why: str) -> OnedError:
    return OnedError(Code.INTERNAL, f"Cannot parse image SIZE: {why}")


def _require_space(call: Call, datastore: Obj, size_mib: int) -> None:
    free = datastores.free_mib(call, datastore)
    if free is not None and size_mib > free:
        raise OnedError(Code.ACTION, "Not enough space in datastore")


def _described(call: Call, template: Template, datastore: Obj, size: int) -> NewImage:
    taken = {
        key: "".join(str(value) for value in template.remove(key)[:1])
        for key in ("NAME", "TYPE", "PERSISTENT", "PATH", "SOURCE", "FORMAT", "FS", "SIZE")
    }
    template.remove("DRIVER")
    kind = _type(call, taken["TYPE"], datastore)
    if taken["PATH"] and taken["SOURCE"]:
        raise refused("PATH and SOURCE cannot be both set.")
    if not (taken["PATH"] or taken["SOURCE"]) and (kind == ImageType.CDROM or kind in FILES):
        raise refused("No PATH nor SOURCE in template.")
    if taken["SOURCE"] and not taken["FORMAT"]:
        raise refused("FORMAT attribute is required when SOURCE is set.")
    form = "" if taken["PATH"] else taken["FORMAT"]
    if not taken["PATH"] and not taken["SOURCE"]:
        form = _empty_format(call, datastore, form)
        template.set("DRIVER", form)
    if kind in (ImageType.OS, ImageType.DATABLOCK) and not template.get("DEV_PREFIX"):
        template.set("DEV_PREFIX", call.sim.oned.get("DEFAULT_DEVICE_PREFIX"))
    may_persist = kind != ImageType.CDROM and kind not in FILES
    return NewImage(
        name=taken["NAME"],
        type=kind,
        datastore=datastore,
        template=template,
        size_mib=size,
        persistent=may_persist and is_yes(taken["PERSISTENT"]),
        source=taken["SOURCE"],
        path=taken["PATH"],
        format=form,
        file_system=taken["FS"],
    )


def _type(call: Call, text: str, datastore: Obj) -> ImageType:
    name = (text or call.sim.oned.get("DEFAULT_IMAGE_TYPE")).upper()
    if name not in ImageType.__members__ or name == "BACKUP":
        raise refused("Incorrect TYPE in template.")
    kind = ImageType[name]
    in_files = datastore.number("TYPE") == datastores.FILE_DS
    if (kind in FILES) != in_files:
        where = "IMAGE" if in_files else "FILE"
        raise refused(f"Image of type {name} needs a {where} datastore.")
    return kind


def _empty_format(call: Call, datastore: Obj, wanted: str) -> str:
    conf = call.sim.oned.named("TM_MAD_CONF", datastore.text("TM_MAD")) or {}
    return conf.get("DRIVER") or datastore.template().get("DRIVER") or wanted or "raw"


def refused(why: str) -> OnedError:
    """What oned answers when an image cannot be allocated."""
    return OnedError(Code.ALLOCATE, f"Error allocating a new image. {why}")


def insert(call: Call, new: NewImage) -> Obj:
    """Charge, write and register *new* for the caller, and queue its file work.

    With a source it is READY at once, unchecked, as oned has it; else LOCKED until done.
    """
    usage = {"IMAGES": 1.0, "SIZE": float(new.size_mib)}
    owner = (call.uid, call.gid)
    quotas.charge(call.sim, owner, "DATASTORE", usage, str(new.datastore.oid))
    oid = call.sim.store.new_id("image")
    image = Obj("image", oid, _body(call, oid, new))
    datastore = call.sim.store.get("datastore", new.datastore.oid)
    doc.add_id(datastore.body, "IMAGES", oid)
    call.sim.store.put(datastore)
    if new.source:
        image.set("STATE", int(ImageState.READY))
        call.sim.events.update(image)
    else:
        call.sim.store.put(image)
        imagework.schedule(call.sim, oid)
    return image


def _body(call: Call, oid: int, new: NewImage) -> Element:
    now = int(time.time())
    disk_type = new.datastore.number("DISK_TYPE")
    body = common.owned_head("IMAGE", oid, call.user, new.name)
    body.extend(
        [
            node("TYPE", int(new.type)),
            node("DISK_TYPE", 1 if new.type == ImageType.CDROM and not disk_type else disk_type),
            node("PERSISTENT", int(new.persistent)),
            node("REGTIME", now),
            node("MODTIME", now),
            cdata("SOURCE", new.source),
            cdata("PATH", new.path),
            cdata("FORMAT", new.format),
            cdata("FS", new.file_system),
            node("SIZE", new.size_mib),
            node("STATE", int(ImageState.LOCKED)),
            node("PREV_STATE", 0),
            node("RUNNING_VMS", 0),
            node("CLONING_OPS", 0),
            node("CLONING_ID", new.cloning_id),
            node("TARGET_SNAPSHOT", -1),
            node("DATASTORE_ID", new.datastore.oid),
            node("DATASTORE", new.datastore.name),
            *(node(tag) for tag in ("VMS", "CLONES", "APP_CLONES")),
            new.template.to_xml(),
            node(
                "SNAPSHOTS",
                None,
                cdata("ALLOW_ORPHANS", "NO"),
                cdata("CURRENT_BASE", -1),
                cdata("NEXT_SNAPSHOT", 0),
            ),
            node("BACKUP_INCREMENTS"),
            node("BACKUP_DISK_IDS"),
        ]
    )
    return body


def clone(call: Call, oid: int, name: str, ds_id: int = -1) -> int:
    """one.image.clone: the source is in use (CLONE if persistent) until the copy is made."""
    source = call.sim.store.get("image", oid)
    auth.require(call, Right.USE, source)
    kind = ImageType(source.number("TYPE"))
    if kind in FILES:
        raise OnedError(Code.ACTION, "KERNEL, RAMDISK and CONTEXT cannot be cloned.")
    target = source.number("DATASTORE_ID") if ds_id == -1 else ds_id
    datastore = call.sim.store.get("datastore", target)
    if datastore.number("TYPE") != datastores.IMAGE_DS:
        raise OnedError(Code.ACTION, "Clone only supported for IMAGE_DS Datastores")
    _require_space(call, datastore, source.number("SIZE"))
    auth.require_create(call, "image")
    auth.require(call, Right.USE, datastore)
    common.require_new_name(call, "image", name, call.uid)
    if source.number("STATE") not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
        state = ImageState(source.number("STATE")).name
        raise refused(f"Cannot clone image in state: {state}")
    new = NewImage(
        name=name,
        type=kind,
        datastore=datastore,
        template=source.template(),
        size_mib=source.number("SIZE"),
        path=source.text("SOURCE"),
        format=source.text("FORMAT"),
        cloning_id=oid,
    )
    if source.number("STATE") == ImageState.READY:
        alone = source.number("PERSISTENT") == 1
        source.set("STATE", int(ImageState.CLONE if alone else ImageState.USED))
    source.set("CLONING_OPS", source.number("CLONING_OPS") + 1)
    call.sim.events.update(source)
    return insert(call, new).oid


def delete(call: Call, oid: int, force: bool = False) -> int:
    """one.image.delete; *force* drops the record even when the file cannot be removed.

    An image in ERROR, or still in DELETE, is tried again.
    """
    image = call.sim.store.get("image", oid)
    state = ImageState(image.number("STATE"))
    if state in BUSY and not force:
        raise OnedError(Code.INTERNAL, LOCKED_TEXT, oid)
    auth.require(call, Right.ADMIN if state in BUSY else Right.MANAGE, image)
    common.require_unlocked(call, image, Right.MANAGE)
    if state in USED or image.number("RUNNING_VMS"):
        problem = f"There are {image.number('RUNNING_VMS')} VMs using it."
        raise OnedError(Code.ACTION, f"Cannot delete image. {problem}")
    if state == ImageState.CLONE:
        problem = f"There are {image.number('CLONING_OPS')} active clone operations."
        raise OnedError(Code.ACTION, f"Cannot delete image. {problem}")
    if force:
        template = image.template()
        template.set(imagework.FORCED, "YES")
        image.set_template(template)
    if not image.text("SOURCE"):
        # There is no file yet: nothing for the driver to do.
        imagework.update(call.sim, image)
        imagework.drop(call.sim, image)
        return oid
    image.set("STATE", int(ImageState.DELETE))
    imagework.update(call.sim, image)
    imagework.schedule(call.sim, oid)
    return oid


def persistent(call: Call, oid: int, on: bool) -> int:
    """one.image.persistent"""
    auth.require(call, Right.MANAGE, call.sim.store.get("image", oid))
    make_persistent(call, oid, on=on)
    return oid


def make_persistent(call: Call, oid: int, *, on: bool) -> None:
    """Set or clear PERSISTENT of an image that nobody uses; raises OnedError otherwise."""
    image = call.sim.store.get("image", oid)
    common.require_unlocked(call, image, Right.MANAGE)
    if on and ImageType(image.number("TYPE")) in FILES:
        raise OnedError(Code.ACTION, "KERNEL, RAMDISK and CONTEXT must be non-persistent")
    state = ImageState(image.number("STATE"))
    if state != ImageState.READY:
        how = "persistent" if on else "non-persistent"
        raise OnedError(
            Code.INTERNAL, f"Could not make image {how}: Image is in state {state.name}."
        )
    image.set("PERSISTENT", int(on))
    call.sim.events.update(image)


def enable(call: Call, oid: int, on: bool) -> int:
    """one.image.enable: DISABLED and ERROR <-> READY."""
    image = call.sim.store.get("image", oid)
    auth.require(call, Right.MANAGE, image)
    state = ImageState(image.number("STATE"))
    before, done = ImageState.DISABLED, ImageState.READY
    if not on:
        before, done = done, before
    if state not in (before, done, ImageState.ERROR):
        how = "enable" if on else "disable"
        raise OnedError(Code.INTERNAL, f"Could not {how} image: Image is in state {state.name}.")
    image.set("STATE", int(done))
    call.sim.events.update(image)
    return oid


def chtype(call: Call, oid: int, text: str) -> int:
    """one.image.chtype"""
    image = call.sim.store.get("image", oid)
    auth.require(call, Right.MANAGE, image)
    kind = ImageType.__members__.get(text.upper())
    if kind is None:
        raise OnedError(Code.INTERNAL, "Unknown type " + text)
    if (kind in FILES) != (ImageType(image.number("TYPE")) in FILES):
        raise OnedError(
            Code.ACTION,
            "Cannot change image type to an incompatible type for the current datastore.",
        )
    image.set("TYPE", int(kind))
    call.sim.store.put(image)
    return oid


def _moved(call: Call, before: Obj, after: Obj) -> None:
    usage = {"IMAGES": 1.0, "SIZE": float(before.number("SIZE"))}
    ds_id = before.text("DATASTORE_ID")
    quotas.release(call.sim, (before.uid, before.gid), "DATASTORE", usage, ds_id)
    quotas.charge(call.sim, (after.uid, after.gid), "DATASTORE", usage, ds_id)


METHODS: dict[str, Handler] = {
    **common.owned_methods("image", "one.image", moved=_moved),
    "one.image.allocate": allocate,
    "one.image.clone": clone,
    "one.image.delete": delete,
    "one.image.persistent": persistent,
    "one.image.enable": enable,
    "one.image.chtype": chtype,
    "one.imagepool.info": common.lister("image", "IMAGE_POOL"),
}
