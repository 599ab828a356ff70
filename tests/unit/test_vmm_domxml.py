"""Each change of the domain XML does its one thing and leaves the rest alone."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from one_kvm_migrate.errors import EnvironmentMissing, UsageError
from one_kvm_migrate.vmm import domxml, wishes

RECORDED = "recordings/driver_vmm_small/deploy.01/stdin"


@pytest.fixture
def recorded(data: Path) -> ET.Element:
    """A domain as OpenNebula 7.5.80 wrote it."""
    return ET.fromstring((data / RECORDED).read_bytes())


def small(devices: str = "", *, head: str = "", kind: str = "kvm") -> ET.Element:
    return ET.fromstring(
        f"<domain type='{kind}'><name>one-7</name>{head}<devices>{devices}</devices></domain>"
    )


def canonical(element: ET.Element) -> str:
    return ET.canonicalize(ET.tostring(element, encoding="unicode"), strip_text=True)


def disk(path: str, cache: str = "none", io: str = "") -> str:
    extra = f" io='{io}'" if io else ""
    return (
        f"<disk type='file' device='disk'><source file='{path}'/><target dev='vda'/>"
        f"<driver name='qemu' type='qcow2' cache='{cache}'{extra}/></disk>"
    )


def test_serialising_keeps_the_recorded_document(recorded: ET.Element) -> None:
    again = ET.fromstring(domxml.serialise(recorded))
    assert canonical(again) == canonical(recorded)
    assert b"<one:vm" in domxml.serialise(recorded)


def test_links_are_resolved_one_step(recorded: ET.Element) -> None:
    targets = {"/var/lib/one//datastores/101/0/disk.0": "/var/lib/one//datastores/100/abc"}
    changes = domxml.resolve_links(recorded, targets.get)
    sources = [s.get("file") for s in recorded.iterfind("devices/disk/source")]
    assert sources == ["/var/lib/one//datastores/100/abc", "/var/lib/one//datastores/101/0/disk.1"]
    assert len(changes) == 1


@pytest.mark.parametrize("path", ["/x/disk.0.snap/0", "/x/other.0", "/x/disk.a", "/x/disk"])
def test_only_paths_named_disk_n_are_resolved(path: str) -> None:
    domain = small(disk(path))
    assert domxml.resolve_links(domain, lambda _: "/elsewhere") == []
    assert canonical(domain) == canonical(small(disk(path)))


def test_a_cdrom_link_stays_as_stock_leaves_it() -> None:
    cdrom = "<disk type='file' device='cdrom'><source file='/x/disk.1'/></disk>"
    assert domxml.resolve_links(small(cdrom), lambda _: "/elsewhere") == []


def test_a_domain_changes_its_type() -> None:
    domain = small(kind="kvm")
    assert domxml.set_type(domain, "qemu", "reason") == ["domain type kvm changed to qemu: reason"]
    assert domain.get("type") == "qemu"


def test_the_same_type_is_no_change(recorded: ET.Element) -> None:
    assert domxml.set_type(recorded, "qemu", "") == []


def test_host_passthrough_becomes_maximum_for_emulation_only() -> None:
    cpu = "<cpu mode='host-passthrough' check='none' migratable='on'><topology sockets='1'/></cpu>"
    emulated = small(head=cpu, kind="qemu")
    assert domxml.set_type(emulated, "qemu", "")
    wanted = small(head="<cpu mode='maximum'><topology sockets='1'/></cpu>", kind="qemu")
    assert canonical(emulated) == canonical(wanted)
    assert domxml.set_type(small(head=cpu), "kvm", "") == []


EMULATOR = "<emulator>/usr/bin/qemu-kvm-one</emulator>"


def test_an_existing_emulator_stays() -> None:
    assert domxml.fit_emulator(small(EMULATOR), "/other", lambda _: True) == []


def test_a_missing_emulator_is_replaced_as_configured() -> None:
    domain = small(EMULATOR)
    assert domxml.fit_emulator(domain, "/other", lambda path: path == "/other")
    assert canonical(domain) == canonical(small("<emulator>/other</emulator>"))


@pytest.mark.parametrize("replacement", ["", "/gone"])
def test_no_emulator_at_all_is_said(replacement: str) -> None:
    with pytest.raises(EnvironmentMissing, match="/usr/bin/qemu-kvm-one"):
        domxml.fit_emulator(small(EMULATOR), replacement, lambda _: False)


def test_a_domain_without_emulator_uses_libvirts() -> None:
    assert domxml.fit_emulator(small(), "", lambda _: False) == []


def test_cache_modes_lose_o_direct_where_there_is_none() -> None:
    domain = small(disk("/a/disk.0", "none", "native") + disk("/b/disk.1", "directsync"))
    changes = domxml.relax_cache(domain, lambda _: False)
    wanted = small(disk("/a/disk.0", "writeback") + disk("/b/disk.1", "writethrough"))
    assert canonical(domain) == canonical(wanted)
    assert len(changes) == 2


@pytest.mark.parametrize("cache", ["writeback", "writethrough", "unsafe", "default"])
def test_other_cache_modes_stay(cache: str) -> None:
    assert domxml.relax_cache(small(disk("/a/disk.0", cache)), lambda _: False) == []


def test_cache_modes_stay_where_o_direct_works(recorded: ET.Element) -> None:
    before = canonical(recorded)
    assert domxml.relax_cache(recorded, lambda _: True) == []
    assert canonical(recorded) == before


def test_wishes_come_from_both_templates_and_the_users_wins() -> None:
    vm = ET.fromstring(
        "<VM><TEMPLATE><OKM><SERIAL>NO</SERIAL><NIC_SLOTS>0:3</NIC_SLOTS></OKM></TEMPLATE>"
        "<USER_TEMPLATE><OKM><SERIAL> LOG </SERIAL></OKM></USER_TEMPLATE></VM>"
    )
    assert wishes.of_machine(vm) == {"SERIAL": "LOG", "NIC_SLOTS": "0:3"}


def test_without_wishes_nothing_changes(recorded: ET.Element) -> None:
    before = canonical(recorded)
    assert wishes.apply(recorded, {"RUN_ID": "7", "SERIAL": "NO", "SCSI_MODEL": ""}, "/vm") == []
    assert canonical(recorded) == before


def test_a_serial_console_is_added_once() -> None:
    domain = small()
    assert wishes.apply(domain, {"SERIAL": "yes"}, "/vm") == ["serial console added"]
    wanted = small("<serial type='pty'><target port='0'/></serial>")
    assert canonical(domain) == canonical(wanted)
    assert wishes.apply(domain, {"SERIAL": "YES"}, "/vm") == []


def test_a_serial_console_can_be_kept_in_a_file() -> None:
    domain = small()
    wishes.apply(domain, {"SERIAL": "LOG"}, "/vm")
    log = "<log file='/vm/serial.log' append='on'/>"
    wanted = small(f"<serial type='pty'>{log}<target port='0'/></serial>")
    assert canonical(domain) == canonical(wanted)


def nic(number: int, extra: str = "") -> str:
    return f"<interface type='bridge'><target dev='one-7-{number}'/>{extra}</interface>"


def slot(number: str) -> str:
    return f"<address type='pci' domain='0x0000' bus='0x00' slot='0x{number}' function='0x0'/>"


def test_nics_are_placed_by_their_id() -> None:
    domain = small(nic(2) + nic(0) + nic(1, slot("09")))
    changes = wishes.apply(domain, {"NIC_SLOTS": "0:3, 1:8, 2:19, 5:20"}, "/vm")
    wanted = small(nic(2, slot("13")) + nic(0, slot("03")) + nic(1, slot("09")))
    assert canonical(domain) == canonical(wanted)
    assert changes == ["NIC 0 placed in PCI slot 3", "NIC 2 placed in PCI slot 19"]


def test_slot_0_leaves_the_place_to_qemu() -> None:
    domain = small(nic(0) + nic(1))
    assert wishes.apply(domain, {"NIC_SLOTS": "0:0,1:0"}, "/vm") == []


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("3", "must look like 0:3,1:8"),
        ("0:x", "must look like 0:3,1:8"),
        ("0:2", "PCI slot 2, but 3 to 31"),
        ("0:32", "PCI slot 32, but 3 to 31"),
        ("0:3,1:3", "PCI slot 3 to two NICs"),
    ],
)
def test_impossible_slots_are_refused(value: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        wishes.apply(small(nic(0)), {"NIC_SLOTS": value}, "/vm")


def test_the_scsi_controller_becomes_another_model() -> None:
    driver = "<driver queues='1'/>"
    domain = small(f"<controller type='scsi' index='0' model='virtio-scsi'>{driver}</controller>")
    assert wishes.apply(domain, {"SCSI_MODEL": "LSISAS1068"}, "/vm")
    wanted = small("<controller type='scsi' index='0' model='lsisas1068'/>")
    assert canonical(domain) == canonical(wanted)


def test_cpus_can_be_made_unpluggable() -> None:
    domain = small(head="<vcpu current='2'>3</vcpu><memory>1</memory>")
    wishes.apply(domain, {"HOTPLUG_VCPUS": "YES"}, "/vm")
    vcpus = (
        "<vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/>"
        "<vcpu id='1' enabled='yes' hotpluggable='yes'/>"
        "<vcpu id='2' enabled='no' hotpluggable='yes'/></vcpus>"
    )
    wanted = small(head=f"<vcpu current='2'>3</vcpu>{vcpus}<memory>1</memory>")
    assert canonical(domain) == canonical(wanted)


@pytest.mark.parametrize(
    ("key", "value"), [("SERIAL", "maybe"), ("HOTPLUG_VCPUS", "2"), ("SCSI_MODEL", "buslogic")]
)
def test_values_that_make_no_sense_are_named(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"OKM/{key} is {value}"):
        wishes.apply(small(), {key: value}, "/vm")
