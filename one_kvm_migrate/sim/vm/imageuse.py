"""Images that machines use: states, counters and the list of users."""

from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.states import ImageState
from one_kvm_migrate.sim.store import Obj

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim


def find(call: Call, disk: dict[str, str]) -> Obj:
    """The image a DISK names with IMAGE_ID, or IMAGE and perhaps IMAGE_UNAME or IMAGE_UID.

    Raises OnedError(ALLOCATE) with oned's text when there is none, and an authorization error
    when the caller may not use it.
    """
    store = call.sim.store
    if "IMAGE_ID" in disk:
        number = disk["IMAGE_ID"]
        image = store.find("image", int(number)) if number.isdigit() else None
        if image is None:
            raise refused(f"Image with ID: {number} does not exist")
    else:
        owner = call.uid
        if "IMAGE_UNAME" in disk:
            user = store.named("user", disk["IMAGE_UNAME"])
            owner = user.oid if user is not None else -1
        elif disk.get("IMAGE_UID", "").isdigit():
            owner = int(disk["IMAGE_UID"])
        image = store.named("image", disk["IMAGE"], owner)
        if image is None:
            raise refused(
                f"User {owner} does not own an image with name: {disk['IMAGE']} . "
                "Set IMAGE_UNAME or IMAGE_UID of owner in DISK."
            )
    auth.require(call, Right.USE, image)
    return image


def refused(reason: str) -> OnedError:
    """What oned answers when a machine cannot be created."""
    return OnedError(Code.ALLOCATE, f"Error allocating a new virtual machine. {reason}")


def acquire(sim: "Sim", image: Obj, vm_id: int) -> ImageState:
    """Let machine *vm_id* use *image*; returns the image's new state.

    Raises OnedError(ALLOCATE) when its state does not allow that.
    """
    state = ImageState(image.number("STATE"))
    persistent = image.number("PERSISTENT") == 1
    if state == ImageState.READY:
        state = ImageState.USED_PERS if persistent else ImageState.USED
    elif state != ImageState.USED:
        raise refused(f"Image {image.oid} is in state {state.name} and cannot be used.")
    image.set("STATE", int(state))
    image.set("RUNNING_VMS", image.number("RUNNING_VMS") + 1)
    doc.add_id(image.body, "VMS", vm_id)
    sim.events.update(image)
    return state


def release(sim: "Sim", image_id: int, vm_id: int, *, failed: bool = False) -> None:
    """Machine *vm_id* no longer uses the image; nothing happens if it is gone.

    A persistent image goes to ERROR if the machine *failed*: nobody knows what is in it.
    """
    image = sim.store.find("image", image_id)
    if image is None or vm_id not in doc.ids(image.body, "VMS"):
        return
    left = max(0, image.number("RUNNING_VMS") - 1)
    image.set("RUNNING_VMS", left)
    doc.remove_id(image.body, "VMS", vm_id)
    snapshots = image.body.find("SNAPSHOTS")
    if image.number("STATE") == ImageState.USED_PERS and snapshots is not None:
        # oned puts the machine's disk snapshots here, and there are none left.
        snapshots.clear()
    state = image.number("STATE")
    if state == ImageState.USED_PERS and failed:
        image.set("STATE", int(ImageState.ERROR))
    elif state in (ImageState.USED, ImageState.USED_PERS) and not (
        left or image.number("CLONING_OPS")
    ):
        image.set("STATE", int(ImageState.READY))
    sim.events.update(image)
