"""What a fresh simulator holds, and what a restarted one takes up again."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.sim import quotas
from one_kvm_migrate.sim.call import ONEADMIN, Call
from one_kvm_migrate.sim.config import new_key
from one_kvm_migrate.sim.errors import OnedError
from one_kvm_migrate.sim.objects import (
    acls,
    clusters,
    datastores,
    groups,
    hosts,
    imagework,
    secgroups,
    users,
    vnets,
)
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template, Value

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import NetworkConfig, Sim

_USERS_VIEW: Value = {
    "DEFAULT_VIEW": "cloud",
    "GROUP_ADMIN_DEFAULT_VIEW": "groupadmin",
    "GROUP_ADMIN_VIEWS": "groupadmin,cloud",
    "VIEWS": "cloud",
}
_DATASTORES: tuple[tuple[str, list[tuple[str, Value]]], ...] = (
    ("system", [("TYPE", "SYSTEM_DS"), ("TM_MAD", "local")]),
    ("default", [("TYPE", "IMAGE_DS"), ("DS_MAD", "fs"), ("TM_MAD", "local")]),
    ("files", [("TYPE", "FILE_DS"), ("DS_MAD", "fs"), ("TM_MAD", "local")]),
)


def one_key(directory: Path) -> str:
    """The ONE_KEY of the simulator in *directory*, made on the first start."""
    path = directory / "one_key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(new_key())
    return path.read_text()


def fill(sim: "Sim") -> None:
    """Make what a fresh OpenNebula has; a state that is not empty stays as it is.

    Hosts and networks of the settings are added where there is none of that name.
    """
    with sim.store.transaction():
        if sim.store.find("user", ONEADMIN) is None:
            oneadmin = _people(sim)
            _resources(sim, oneadmin)
        for host in sim.config.hosts:
            if sim.store.named("host", host.name) is None:
                hosts.create(sim, host.name, sim.config.vm_mad, sim.config.vm_mad)
        for network in sim.config.networks:
            _network(sim, network)


def _network(sim: "Sim", wanted: "NetworkConfig") -> None:
    known = sim.store.named("vnet", wanted.name, ONEADMIN)
    if known is not None:
        if known.text("BRIDGE") != wanted.bridge:
            raise ConfigError(
                f"the network {wanted.name} is on bridge {known.text('BRIDGE')} already, "
                f"not on {wanted.bridge}",
                hint="Choose another name, or delete that network first.",
            )
        return
    call = Call(sim, sim.store.get("user", ONEADMIN), "one.vn.allocate")
    number = max((network.oid for network in sim.store.all("vnet")), default=-1) + 1
    addresses: Value = {"TYPE": "IP4", "IP": f"10.9.{number % 256}.10", "SIZE": "200"}
    template = Template(
        [("NAME", wanted.name), ("VN_MAD", "dummy"), ("BRIDGE", wanted.bridge), ("AR", addresses)]
    )
    try:
        vnets.create(call, template)
    except OnedError as exc:
        raise ConfigError(
            f"cannot make the network {wanted.name}: {exc}", hint="Give it another name."
        ) from exc


def _people(sim: "Sim") -> Obj:
    for kind in ("user", "group"):
        sim.store.put(Obj(f"{kind}quota", -1, quotas.empty(oid=-1)))
    groups.create(sim, ONEADMIN, "oneadmin", Template())
    groups.create(sim, users.USERS_GROUP, "users", Template([("SUNSTONE", _USERS_VIEW)]))
    oneadmin = users.create(sim, ONEADMIN, "oneadmin", ("core", sim.config.password), [ONEADMIN])
    server = ("server_cipher", secrets.token_hex(16))
    users.create(sim, users.SERVERADMIN, "serveradmin", server, [ONEADMIN])
    acls.add_first_rules(sim)
    return oneadmin


def _resources(sim: "Sim", oneadmin: Obj) -> None:
    clusters.create(sim, clusters.DEFAULT, "default")
    for oid, (name, attributes) in enumerate(_DATASTORES):
        datastore = datastores.create(sim, oid, oneadmin, name, Template(attributes))
        clusters.join(sim, clusters.DEFAULT, datastore)
    secgroups.create(sim, secgroups.DEFAULT, oneadmin, "default", secgroups.first_template())


def resume(sim: "Sim") -> None:
    """Take up work that a stop interrupted."""
    from one_kvm_migrate.sim.vm import api

    imagework.resume(sim)
    for network in sim.store.all("vnet"):
        if network.number("STATE") == vnets.LOCK_CREATE:
            vnets.schedule(sim, network.oid)
    api.resume(sim)
