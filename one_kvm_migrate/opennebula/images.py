"""Images: registered by SOURCE, found again by marker, deleted."""

from dataclasses import dataclass

from lxml import etree

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import StateUnexpected
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.markers import Marker
from one_kvm_migrate.opennebula.template import Attributes, to_xml
from one_kvm_migrate.opennebula.xmlread import ALL, number, owned, text
from one_kvm_migrate.units import MiB, ceil_div

READY = 1
ERROR = 5
# USED, LOCKED, CLONE, USED_PERS, LOCKED_USED, LOCKED_USED_PERS
IN_USE = (2, 4, 6, 8, 9, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """What is to be registered. ``source`` is an existing file; ``virtual_bytes`` its size."""

    name: str
    source: str
    virtual_bytes: int
    sha256: str
    persistent: bool
    dev_prefix: str
    description: str


def attributes(image: NewImage, marker: Marker) -> Attributes:
    """Template of *image*. SIZE is in MiB; SOURCE images need FORMAT and SIZE (contract §7.1)."""
    return [
        ("NAME", image.name),
        ("TYPE", "OS"),
        ("SOURCE", image.source),
        ("FORMAT", "qcow2"),
        ("SIZE", str(ceil_div(image.virtual_bytes, MiB))),
        ("PERSISTENT", "YES" if image.persistent else "NO"),
        ("DEV_PREFIX", image.dev_prefix),
        ("DESCRIPTION", image.description),
        ("OKM_SHA256", image.sha256),
        *marker.attributes(),
    ]


def register(client: Client, image: NewImage, marker: Marker, datastore_id: int) -> int:
    """Allocate *image* in the datastore and return its id.

    The capacity check of oned is off: it would count the virtual size although the file is
    already there. For users outside oneadmin oned ignores the flag and checks all the same.
    """
    template = to_xml(attributes(image, marker))
    return client.number("one.image.allocate", template, datastore_id, True)


def find_by_marker(client: Client, marker: Marker, source: str) -> int | None:
    """Id of the image of *source* that carries *marker*, or None.

    A user's clone of the image has the same marks but a SOURCE of its own.
    """
    item = _by_marker(client, marker, source)
    return None if item is None else number(item, "ID")


def _by_marker(client: Client, marker: Marker, source: str) -> etree._Element | None:
    for item in client.document("one.imagepool.info", *ALL).findall("IMAGE"):
        if text(item, "SOURCE") == source and marker.matches(item.find("TEMPLATE")):
            return item
    return None


def names(client: Client, user: str) -> dict[str, int]:
    """Ids of *user*'s images by name (a name is unique per owner)."""
    return owned(client.document("one.imagepool.info", *ALL), "IMAGE", user)


def wait_ready(client: Client, image_id: int, deadline: Deadline) -> None:
    """Return once the image is READY. Raises StateUnexpected when it goes to ERROR."""

    def ready() -> bool:
        document = client.document("one.image.info", image_id)
        state = number(document, "STATE")
        if state == ERROR:
            reason = text(document, "TEMPLATE/ERROR", "no reason given")
            raise StateUnexpected(f"image {image_id} went to ERROR: {reason}")
        return state == READY

    wait_until(ready, deadline, what=f"image {image_id} to become READY", interval_s=0.5)


def delete(client: Client, marker: Marker, source: str, deadline: Deadline) -> None:
    """Delete the image of *source* that carries *marker*; one already gone is success.

    Waits while something uses it: a VM that ended a moment ago gives its disks back later.
    When oned cannot remove the file (someone did before), only the record is dropped. Nothing
    without our mark is ever deleted. Raises DeadlineExceeded while the image is in use.
    """

    def state() -> int | None:
        item = _by_marker(client, marker, source)
        return None if item is None else number(item, "STATE")

    def free() -> bool:
        return state() not in IN_USE

    def gone_or_failed() -> bool:
        return state() in (None, ERROR)

    wait_until(free, deadline, what=f"the image of {source} to be used by no VM")
    for force in (False, True):
        image_id = find_by_marker(client, marker, source)
        if image_id is None:
            return
        client.call("one.image.delete", image_id, force)
        wait_until(gone_or_failed, deadline, what=f"image {image_id} to be deleted")
