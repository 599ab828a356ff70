"""What happens to an image after the call: copied, made, cloned or removed, then READY.

A job looks at the image as it is written, so a restarted simulator just queues it again.
"""

import logging
import time
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import doc, imagefiles, quotas
from one_kvm_migrate.sim.errors import OnedError
from one_kvm_migrate.sim.imagefiles import DriverFailed, Place
from one_kvm_migrate.sim.states import ImageState
from one_kvm_migrate.sim.store import Obj

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

log = logging.getLogger(__name__)

# The template attribute with which oned remembers that a delete call was forced.
FORCED = "FORCE_DELETE"
# oned has a place for the source in this text, but leaves it empty.
RM_FAILED = (
    "Error removing image from datastore. Retry the operation or manually remove image source "
    " and run the delete --force operation to completely delete the image"
)
LABELS = {"cp": "copying", "clone": "cloning", "mkfs": "creating"}


def place(sim: "Sim", datastore: Obj) -> Place:
    """What the file driver needs to know of *datastore*."""
    template = datastore.template()
    return Place(
        base_path=datastore.text("BASE_PATH"),
        driver=template.get("DRIVER"),
        safe_dirs=template.get("SAFE_DIRS"),
        restricted_dirs=template.get("RESTRICTED_DIRS"),
        var=sim.var,
    )


def schedule(sim: "Sim", oid: int) -> None:
    """Queue the work that the image's state asks for, once the transaction is committed."""
    sim.store.after_commit(lambda: sim.jobs.submit(lambda: work(sim, oid), label=f"image {oid}"))


def resume(sim: "Sim") -> None:
    """Queue what a stop interrupted."""
    for image in sim.store.all("image"):
        saving = image.text("FORMAT") == imagefiles.SAVE_AS and image.text("SOURCE")
        if image.number("STATE") in (ImageState.LOCKED, ImageState.DELETE) and not saving:
            schedule(sim, image.oid)


def work(sim: "Sim", oid: int) -> None:
    """Do it: remove a DELETE image, fill a LOCKED one; nothing for other states."""
    image = sim.store.find("image", oid)
    if image is None:
        return
    if image.number("STATE") == ImageState.DELETE:
        _remove(sim, image)
    elif image.number("STATE") == ImageState.LOCKED:
        _fill(sim, image)


def _fill(sim: "Sim", image: Obj) -> None:
    cloned = image.number("CLONING_ID", -1) >= 0
    operation = "clone" if cloned else "cp" if image.text("PATH") else "mkfs"
    try:
        source, form = _run(sim, image, operation)
    except (DriverFailed, OnedError, OSError) as exc:
        _fail(sim, image.oid, f"Error {LABELS[operation]} image in the datastore: {exc}")
    else:
        _ready(sim, image.oid, source, form)


def _run(sim: "Sim", image: Obj, operation: str) -> tuple[str, str]:
    where = place(sim, sim.store.get("datastore", image.number("DATASTORE_ID")))
    if operation == "mkfs":
        form = image.text("FORMAT")
        wanted = (form, image.text("FS"), image.number("SIZE"))
        return imagefiles.make(sim.processes, where, image.oid, wanted), form
    driver = imagefiles.clone if operation == "clone" else imagefiles.copy
    return driver(sim.processes, where, image.oid, image.text("PATH"))


def _ready(sim: "Sim", oid: int, source: str, form: str) -> None:
    with sim.store.transaction():
        image = sim.store.find("image", oid)
        if image is None:
            return
        image.set("SOURCE", source)
        image.set("FORMAT", form)
        if form != imagefiles.SAVE_AS:
            image.set("STATE", int(ImageState.READY))
        update(sim, image)


def update(sim: "Sim", image: Obj) -> None:
    """Write an image that is no longer being cloned; then its source may be free again.

    Call it inside a transaction.
    """
    cloned = image.number("CLONING_ID", -1)
    image.set("CLONING_ID", -1)
    sim.events.update(image)
    source = sim.store.find("image", cloned)
    if source is None:
        return
    left = max(0, source.number("CLONING_OPS") - 1)
    source.set("CLONING_OPS", left)
    unused = not left and not source.number("RUNNING_VMS")
    if unused and source.number("STATE") in (ImageState.CLONE, ImageState.USED):
        source.set("STATE", int(ImageState.READY))
    sim.events.update(source)


def _fail(sim: "Sim", oid: int, why: str) -> None:
    with sim.store.transaction():
        image = sim.store.find("image", oid)
        if image is None:
            return
        template = image.template()
        template.set("ERROR", f"{time.ctime()} : {why}")
        image.set_template(template)
        image.set("STATE", int(ImageState.ERROR))
        update(sim, image)


def _remove(sim: "Sim", image: Obj) -> None:
    where = place(sim, sim.store.get("datastore", image.number("DATASTORE_ID")))
    problem = ""
    try:
        imagefiles.remove(where, image.text("SOURCE"))
    except DriverFailed as exc:
        problem = str(exc)
    with sim.store.transaction():
        # Forcing may have been asked for while the file was being removed.
        found = sim.store.find("image", image.oid)
        if found is None:
            return
        if not problem or found.template().yes(FORCED):
            drop(sim, found)
            return
        log.error("image=%d not removed: %s", image.oid, problem)
        _fail(sim, image.oid, RM_FAILED)


def drop(sim: "Sim", image: Obj) -> None:
    """Remove the record of *image*; its file is the caller's business."""
    ds_id = image.number("DATASTORE_ID")
    datastore = sim.store.find("datastore", ds_id)
    if datastore is not None:
        doc.remove_id(datastore.body, "IMAGES", image.oid)
        sim.store.put(datastore)
    usage = {"IMAGES": 1.0, "SIZE": float(image.number("SIZE"))}
    quotas.release(sim, (image.uid, image.gid), "DATASTORE", usage, str(ds_id))
    sim.store.delete("image", image.oid)
