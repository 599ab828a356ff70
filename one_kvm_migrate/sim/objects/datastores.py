"""one.datastore.* and one.datastorepool.*, with capacity measured on the real directory."""

import os
import shutil
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.objects import clusters, common
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template, is_yes
from one_kvm_migrate.units import MiB

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

FIRST_ID = 100
IMAGE_DS, SYSTEM_DS, FILE_DS, BACKUP_DS = 0, 1, 2, 3
TYPES = {"IMAGE_DS": IMAGE_DS, "SYSTEM_DS": SYSTEM_DS, "FILE_DS": FILE_DS, "BACKUP_DS": BACKUP_DS}
DISK_TYPES = {"FILE": 0, "CDROM": 1, "BLOCK": 2, "RBD": 3}
READY, DISABLED = 0, 1
BITS = "110100000"
# What a datastore takes from TM_MAD_CONF, by its type.
_SYSTEM_KEYS = ("DS_LIVE_MIGRATE", "DS_MIGRATE", "DS_MIGRATE_SNAP", "SHARED")
_IMAGE_KEYS = ("CLONE_TARGET", "LN_TARGET", "TM_MAD_SYSTEM")
_SSH_KEYS = ("CLONE_TARGET_SSH", "DISK_TYPE_SSH", "LN_TARGET_SSH")


def create(sim: "Sim", oid: int, owner: Obj, name: str, template: Template) -> Obj:
    """Write a datastore and make its directory. Raises OnedError for a wrong *template*."""
    kind = _completed(sim, template)
    base_path = f"{sim.oned.datastore_location}/{oid}"
    body = common.owned_head("DATASTORE", oid, owner, name, BITS)
    body.extend(
        [
            cdata("DS_MAD", template.get("DS_MAD", "-")),
            cdata("TM_MAD", template.get("TM_MAD")),
            cdata("BASE_PATH", base_path),
            node("TYPE", kind),
            node("DISK_TYPE", DISK_TYPES.get(template.get("DISK_TYPE", "FILE"), 0)),
            node("STATE", READY),
            node("CLUSTERS"),
            *(node(tag, 0) for tag in ("TOTAL_MB", "FREE_MB", "USED_MB")),
            node("IMAGES"),
            template.to_xml(),
        ]
    )
    os.makedirs(base_path, exist_ok=True)
    datastore = Obj("datastore", oid, body)
    sim.store.put(datastore)
    sim.store.after_commit(
        lambda: sim.jobs.submit(lambda: measure(sim, oid), label=f"monitor datastore {oid}")
    )
    return datastore


def _completed(sim: "Sim", template: Template) -> int:
    """Add to *template* what oned derives; the number of its TYPE."""
    kind = TYPES.get(template.get("TYPE", "IMAGE_DS").upper())
    if kind is None:
        raise _refused("Unknown datastore type")
    template.set("TYPE", template.get("TYPE", "IMAGE_DS").upper())
    if kind == SYSTEM_DS:
        template.remove("DS_MAD")
    elif not template.get("DS_MAD"):
        raise _refused("No DS_MAD in template.")
    if not template.get("TM_MAD"):
        raise _refused("No TM_MAD in template.")
    conf = sim.oned.named("TM_MAD_CONF", template.get("TM_MAD"))
    if conf is None:
        raise _refused(f'TM_MAD named "{template.get("TM_MAD")}" is not defined in oned.conf')
    _derive(template, kind, conf)
    if not template.has("SAFE_DIRS") and not template.has("RESTRICTED_DIRS"):
        template.set("SAFE_DIRS", "/var/tmp")
        template.set("RESTRICTED_DIRS", "/")
    return kind


def _derive(template: Template, kind: int, conf: dict[str, str]) -> None:
    keys = _SYSTEM_KEYS if kind == SYSTEM_DS else (*_IMAGE_KEYS, *_SSH_KEYS)
    for key in keys:
        if key in conf:
            template.set(key, conf[key])
    template.set("ALLOW_ORPHANS", conf.get("ALLOW_ORPHANS", "NO"))
    template.set("PERSISTENT_SNAPSHOTS", conf.get("PERSISTENT_SNAPSHOTS", "YES"))
    if kind in (IMAGE_DS, SYSTEM_DS) and not template.has("DISK_TYPE"):
        template.set("DISK_TYPE", conf.get("DISK_TYPE", "FILE"))
    if kind == IMAGE_DS and "DRIVER" in conf:
        template.set("DRIVER", conf["DRIVER"])


def _refused(why: str) -> OnedError:
    return OnedError(Code.ALLOCATE, f"Error allocating a new datastore. {why}")


def allocate(call: Call, text: str, cluster_id: int = -1) -> int:
    """one.datastore.allocate"""
    template = common.parse(text)
    auth.require_create(call, "datastore")
    name = "".join(str(value) for value in template.remove("NAME")[:1])
    common.require_new_name(call, "datastore", name, None)
    cluster_id = clusters.DEFAULT if cluster_id == -1 else cluster_id
    call.sim.store.get("cluster", cluster_id)
    oid = call.sim.store.new_id("datastore", FIRST_ID)
    clusters.join(call.sim, cluster_id, create(call.sim, oid, call.user, name, template))
    return oid


def delete(call: Call, oid: int) -> int:
    """one.datastore.delete: only when no image is in it."""
    datastore = call.sim.store.get("datastore", oid)
    auth.require(call, Right.ADMIN, datastore)
    if doc.ids(datastore.body, "IMAGES"):
        raise OnedError(Code.ACTION, f"Cannot delete datastore. Datastore {oid} is not empty.")
    if oid < FIRST_ID:
        raise OnedError(Code.ACTION, "Cannot delete datastore. System datastores stay.")
    clusters.leave_all(call.sim, datastore)
    call.sim.store.delete("datastore", oid)
    return oid


def enable(call: Call, oid: int, on: bool) -> int:
    """one.datastore.enable: for system datastores."""
    datastore = call.sim.store.get("datastore", oid)
    auth.require(call, Right.MANAGE, datastore)
    if datastore.number("TYPE") != SYSTEM_DS:
        raise OnedError(
            Code.ACTION, f"Could not {'enable' if on else 'disable'}: it is no system datastore"
        )
    datastore.set("STATE", READY if on else DISABLED)
    call.sim.store.put(datastore)
    return oid


def _fix(call: Call, datastore: Obj, template: Template) -> None:
    old = datastore.template()
    for key in ("TYPE", "TM_MAD", "DS_MAD"):
        # These decide where files lie; oned ignores attempts to drop them.
        if not template.get(key) and old.get(key):
            template.set(key, old.get(key))
    _completed(call.sim, template)


def free_mib(call: Call, datastore: Obj) -> int | None:
    """MiB an image may still take; None if this datastore's capacity is not checked."""
    template = datastore.template()
    checked = template.get("DATASTORE_CAPACITY_CHECK", "yes")
    if not is_yes(checked) or not is_yes(call.sim.oned.get("DATASTORE_CAPACITY_CHECK")):
        return None
    measured = _capacity(datastore)
    free = measured["FREE_MB"]
    limit = template.get("LIMIT_MB")
    if limit.isdigit():
        # oned compares with what the whole file system has in use, not only the datastore.
        free = min(free, int(limit) - measured["USED_MB"])
    return max(0, free)


def measure(sim: "Sim", oid: int) -> None:
    """Write TOTAL_MB, FREE_MB and USED_MB of one datastore; gone ones are skipped."""
    with sim.store.transaction():
        datastore = sim.store.find("datastore", oid)
        if datastore is None:
            return
        for tag, value in _capacity(datastore).items():
            datastore.set(tag, value)
        sim.store.put(datastore)


def monitor(sim: "Sim") -> None:
    """Measure all datastores."""
    for datastore in sim.store.all("datastore"):
        measure(sim, datastore.oid)


def _capacity(datastore: Obj) -> dict[str, int]:
    try:
        usage = shutil.disk_usage(datastore.text("BASE_PATH"))
    except OSError:
        return {"TOTAL_MB": 0, "FREE_MB": 0, "USED_MB": 0}
    return {
        "TOTAL_MB": usage.total // MiB,
        "FREE_MB": usage.free // MiB,
        "USED_MB": usage.used // MiB,
    }


METHODS: dict[str, Handler] = {
    **common.owned_methods("datastore", "one.datastore", fix=_fix),
    "one.datastore.rename": common.renamer("datastore", per_owner=False),
    "one.datastore.allocate": allocate,
    "one.datastore.delete": delete,
    "one.datastore.enable": enable,
    "one.datastorepool.info": common.lister_of_all("datastore", "DATASTORE_POOL"),
}
