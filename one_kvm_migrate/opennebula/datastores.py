"""Image datastores: which one, and where its files lie."""

import os
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.errors import ConfigError, Rejected
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.xmlread import number, pick, text

IMAGE_DATASTORE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """An image datastore. ``base_path`` is oned's own string, double slash and all.

    oned deletes an image only when dirname(SOURCE) equals that string exactly.
    """

    id: int
    name: str
    base_path: str
    tm_mad: str
    ds_mad: str

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
