"""Image datastores: which one, and where its files lie."""

import os
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from one_kvm_migrate.errors import ConfigError, Rejected
from one_kvm_migrate.opennebula.client import NO_EXISTS, Client
from one_kvm_migrate.opennebula.xmlread import number, pick, text
from one_kvm_migrate.units import MiB

IMAGE_DATASTORE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """An image datastore. ``base_path`` is oned's own string, double slash and all.

    oned deletes an image only when dirname(SOURCE) equals that string exactly.
    ``limit_bytes`` is what LIMIT_MB leaves, None without one.
    """

    id: int
    name: str
    base_path: str
    tm_mad: str
    ds_mad: str
    limit_bytes: int | None

    def source(self, file_name: str) -> str:
        """SOURCE string of a file of this datastore."""
        return f"{self.base_path}/{file_name}"


def find_image_datastore(client: Client, wanted: str) -> Datastore:
    """The image datastore *wanted* (id or name).

    Raises Rejected (unknown, or not for images), ConfigError (its folder is not here or not
    writable, so images cannot be written straight into it).
    """
    pool = client.document("one.datastorepool.info")
    item = pick(pool, "DATASTORE", wanted, "datastore")
    datastore = Datastore(
        id=number(item, "ID"),
        name=text(item, "NAME"),
        base_path=text(item, "BASE_PATH").rstrip("/"),
        tm_mad=text(item, "TM_MAD"),
        ds_mad=text(item, "DS_MAD"),
        limit_bytes=_limit_bytes(item),
    )
    if number(item, "TYPE", -1) != IMAGE_DATASTORE:
        raise Rejected(
            f"datastore {datastore.name} is not an image datastore",
            hint="Choose one of type IMAGE (onedatastore list).",
        )
    if datastore.ds_mad != "fs":
        raise Rejected(
            f"datastore {datastore.name} has the driver {datastore.ds_mad}, not fs",
            hint="Choose a file-based image datastore.",
        )
    if text(item, "TEMPLATE/BRIDGE_LIST"):
        raise Rejected(
            f"the files of datastore {datastore.name} live on its BRIDGE_LIST hosts, not here",
            hint="Choose a datastore whose folder is mounted on the front-end.",
        )
    if text(item, "TEMPLATE/DRIVER", "qcow2") != "qcow2":
        raise Rejected(
            f"datastore {datastore.name} holds {text(item, 'TEMPLATE/DRIVER')} images only",
            hint="Choose one with DRIVER=qcow2 or without DRIVER.",
        )
    if not Path(datastore.base_path).is_dir():
        raise ConfigError(
            f"{datastore.base_path}, the folder of datastore {datastore.name}, is not here",
            hint="Run on the front-end, or mount the datastore at that path.",
        )
    if not os.access(datastore.base_path, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{datastore.base_path}, the folder of datastore {datastore.name}, is not writable",
            hint="Run as its owner, which is oneadmin on a front-end.",
        )
    return datastore


def _limit_bytes(item: etree._Element) -> int | None:
    """Bytes left below LIMIT_MB, None without a limit. oned's own check counts virtual sizes."""
    limit = number(item, "TEMPLATE/LIMIT_MB", -1)
    return max(0, limit - number(item, "USED_MB")) * MiB if limit >= 0 else None


def datastore_folder(client: Client, datastore_id: int) -> str | None:
    """BASE_PATH of the datastore without a slash at the end, None when there is none."""
    try:
        document = client.document("one.datastore.info", datastore_id)
    except Rejected as exc:
        if exc.code == NO_EXISTS:
            return None
        raise
    return text(document, "BASE_PATH").rstrip("/")
