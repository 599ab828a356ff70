"""Which transfers bring a machine's disks to a host, move them, and take them away again."""

from one_kvm_migrate.sim.doc import Element
from one_kvm_migrate.sim.vm import disks, history
from one_kvm_migrate.sim.vm.history import Place
from one_kvm_migrate.sim.vm.machine import Machine
from one_kvm_migrate.sim.vm.transfer import Transfer

FRONT_END = "vm"


def disk_form(disk: dict[str, str]) -> str:
    """The format that tools must be told: a CD is only linked, never opened."""
    return "iso" if disks.is_cdrom(disk) else disk.get("DRIVER") or disk.get("FORMAT", "raw")


def disk_path(machine: Machine, disk: dict[str, str], place: Place | None = None) -> str:
    """host:path of a disk at *place*, or where the machine is."""
    place = place or machine.place()
    directory = machine.system_dir(place.datastore_id)
    return f"{place.host_name}:{directory}/disk.{disk['DISK_ID']}"


def _tail(machine: Machine, disk: dict[str, str]) -> tuple[str, str]:
    return str(machine.oid), disk.get("DATASTORE_ID") or str(machine.place().datastore_id)


def bring(machine: Machine, disk: dict[str, str], *, plugged: bool = False) -> Transfer:
    """The transfer that makes a disk's file; *plugged* ones name the system's driver too."""
    place = machine.place()
    target = disk_path(machine, disk)
    form = disk_form(disk)
    if not disks.is_image(disk):
        tail = _tail(machine, disk)
        if disk["TYPE"] == "swap":
            return Transfer(
                op="MKSWAP", tm_mad=place.tm_mad, args=(disk["SIZE"], target, *tail), form=form
            )
        made = (disk["SIZE"], disk["FORMAT"], target, *tail)
        return Transfer(op="MKIMAGE", tm_mad=place.tm_mad, args=made, form=form)
    op = "CLONE" if disk.get("CLONE") == "YES" else "LN"
    if plugged:
        op = f"{op}.{place.tm_mad}"
    args = (f"{FRONT_END}:{disk['SOURCE']}", target, *_tail(machine, disk))
    return Transfer(op=op, tm_mad=disk["TM_MAD"], args=args, form=form)


def take_away(machine: Machine, disk: dict[str, str], *, plugged: bool = False) -> Transfer:
    """The transfer that ends a disk's file: persistent ones go back, others are deleted."""
    place = machine.place()
    tail = _tail(machine, disk)
    target = disk_path(machine, disk)
    suffix = f".{place.tm_mad}" if plugged else ""
    if disk.get("SAVE") == "YES":
        args = (target, disk["SOURCE"], *tail)
        return Transfer(op=f"MVDS{suffix}", tm_mad=disk["TM_MAD"], args=args)
    tm_mad = disk.get("TM_MAD", place.tm_mad)
    return Transfer(op=f"DELETE{suffix}", tm_mad=tm_mad, args=(target, *tail))


def grow(machine: Machine, disk: dict[str, str]) -> Transfer:
    """The transfer that makes a disk's file as large as SIZE says."""
    args = (disk_path(machine, disk), disk["SIZE"], *_tail(machine, disk))
    tm_mad = disk.get("TM_MAD", machine.place().tm_mad)
    return Transfer(op="RESIZE", tm_mad=tm_mad, args=args, form=disk_form(disk))


def prolog(machine: Machine) -> list[Transfer]:
    """Everything a first deployment needs, the context CD apart."""
    found: list[Transfer] = []
    for disk in machine.template().vectors("DISK"):
        found.append(bring(machine, disk))
        if disks.is_image(disk) and disk["SIZE"] != disk["ORIGINAL_SIZE"]:
            found.append(grow(machine, disk))
    return found


def epilog(machine: Machine) -> list[Transfer]:
    """Everything that ends with the machine, its directory last."""
    place = machine.place()
    found = [take_away(machine, disk) for disk in machine.template().vectors("DISK")]
    where = f"{place.host_name}:{machine.system_dir()}"
    args = (where, str(machine.oid), str(place.datastore_id))
    return [*found, Transfer(op="DELETE", tm_mad=place.tm_mad, args=args)]


def move(machine: Machine, source: Place | None, target: Place | None) -> list[Transfer]:
    """Disks and directory from *source* to *target*; None is the front-end."""
    here = machine.place()

    def at(place: Place | None, name: str) -> str:
        host = place.host_name if place else FRONT_END
        directory = machine.system_dir((place or here).datastore_id)
        return f"{host}:{directory}{name}"

    found = []
    for disk in machine.template().vectors("DISK"):
        name = f"/disk.{disk['DISK_ID']}"
        args = (at(source, name), at(target, name), *_tail(machine, disk))
        found.append(Transfer(op="MV", tm_mad=disk.get("TM_MAD", here.tm_mad), args=args))
    args = (at(source, ""), at(target, ""), str(machine.oid), str(here.datastore_id))
    return [*found, Transfer(op="MV", tm_mad=here.tm_mad, args=args)]


def between(machine: Machine) -> list[Transfer]:
    """From the record before to the newest one."""
    records: list[Element] = machine.records()
    source, target = (history.place_of(record) for record in records[-2:])
    return move(machine, source, target)


def copy_out(machine: Machine, disk: dict[str, str], target: str, snapshot: int) -> Transfer:
    """A disk's content, or that of one of its snapshots, into a new image file."""
    args = (disk_path(machine, disk), target, str(snapshot), *_tail(machine, disk))
    return Transfer(op="CPDS", tm_mad=disk["TM_MAD"], args=args, form=disk_form(disk))


def disk_snapshot(machine: Machine, action: str, disk: dict[str, str], number: int) -> Transfer:
    """Create, revert or delete snapshot *number* of a disk that is not in use."""
    args = (disk_path(machine, disk), str(number), *_tail(machine, disk))
    tm_mad = disk.get("TM_MAD", machine.place().tm_mad)
    return Transfer(op=f"SNAP_{action}", tm_mad=tm_mad, args=args, form=disk_form(disk))
