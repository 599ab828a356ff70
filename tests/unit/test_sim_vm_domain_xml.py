"""The deployment file against what oned 7.5.80 wrote for the same machine document."""

import base64
from pathlib import Path

import pytest
from lxml import etree

from one_kvm_migrate.sim.vm.attributes import Surroundings
from one_kvm_migrate.sim.vm.domain_xml import deployment_file

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"


def recorded_documents(action: str) -> list[etree._Element]:
    """VMM_DRIVER_ACTION_DATA of every recorded *action*, in order."""
    lines = (RECORDINGS / "driver-protocol" / "oned-to-driver.txt").read_text().splitlines()
    words = [line.split() for line in lines if line.startswith(f"{action} ")]
    return [etree.fromstring(base64.b64decode(word[-1])) for word in words]


def around(**changes: object) -> Surroundings:
    values = {
        "domain_type": "qemu",
        "system_dir": "/var/lib/one//datastores/101/7",
        "deployment_time": 1,
        **changes,
    }
    return Surroundings(**values)  # type: ignore[arg-type]


def machine(template: str) -> etree._Element:
    return etree.fromstring(
        "<VM><ID>7</ID><UID>0</UID><GID>0</GID><UNAME>a</UNAME><GNAME>b</GNAME><NAME>x</NAME>"
        f"<STIME>5</STIME><TEMPLATE><CPU>1</CPU><MEMORY>512</MEMORY>{template}</TEMPLATE></VM>"
    )


def domain(template: str, **changes: object) -> etree._Element:
    return etree.fromstring(deployment_file(machine(template), around(**changes)))


@pytest.mark.parametrize("number", range(1, 8))
def test_is_the_recorded_text(number: int) -> None:
    recorded = (RECORDINGS / "driver" / "vmm" / f"deploy.{number:02}" / "stdin").read_text()
    document = recorded_documents("DEPLOY")[number - 1]
    vm = document.find("VM")
    assert vm is not None
    metadata = etree.fromstring(recorded.encode())
    deployed = metadata.findtext(".//{*}deployment_time")
    text = deployment_file(
        vm,
        Surroundings(
            domain_type="qemu",
            system_dir=metadata.findtext(".//{*}system_datastore") or "",
            deployment_time=int(deployed or 0),
        ),
    )
    # The recorder's here-document added one newline (contract 2.3).
    assert text == recorded.removesuffix("\n") or text == recorded


def test_pc_machine_has_no_root_ports_and_ide_cdrom() -> None:
    tree = domain(
        "<OS><MACHINE>pc</MACHINE></OS><CONTEXT><TARGET>hda</TARGET><DISK_ID>1</DISK_ID></CONTEXT>"
    )
    assert tree.xpath("//controller[@model='pcie-root-port']") == []
    assert tree.xpath("string(//disk/target/@bus)") == "ide"
    assert tree.xpath("string(//type/@machine)") == "pc"


def test_memory_and_vcpu_shapes() -> None:
    plain = domain("")
    assert plain.findtext("memory") == "524288"
    assert plain.find("currentMemory") is None
    assert plain.findtext("vcpu") == "1"
    hotplug = domain(
        "<VCPU>2</VCPU><MEMORY_MAX>2048</MEMORY_MAX>"
        "<MEMORY_RESIZE_MODE>HOTPLUG</MEMORY_RESIZE_MODE>"
    )
    assert hotplug.findtext("memory") == "524288"
    assert hotplug.findtext("maxMemory") == "2097152"
    assert hotplug.xpath("string(//numa/cell/@cpus)") == "0-1"


def test_disks_by_prefix() -> None:
    disks = "".join(
        f"<DISK><DISK_ID>{n}</DISK_ID><TARGET>{t}</TARGET><TYPE>{k}</TYPE><DRIVER>qcow2</DRIVER>"
        f"<READONLY>{r}</READONLY><TOTAL_BYTES_SEC>{n}0</TOTAL_BYTES_SEC></DISK>"
        for n, (t, k, r) in enumerate(
            [("hda", "FILE", "NO"), ("sdb", "FILE", "YES"), ("vda", "BLOCK", "NO"),
             ("hdb", "CDROM", "NO")], 1
        )
    )  # fmt: skip
    tree = domain(disks)
    assert tree.xpath("//disk/target/@bus") == ["sata", "scsi", "virtio", "sata"]
    assert tree.xpath("//disk/@type") == ["file", "file", "block", "file"]
    assert tree.xpath("//disk/driver/@type") == ["qcow2", "qcow2", "qcow2", "raw"]
    assert tree.xpath("//disk[readonly]/target/@dev") == ["sdb", "hdb"]
    assert tree.xpath("//disk/address/@target") == ["1"]
    assert tree.xpath("//disk/iotune/total_bytes_sec/text()") == ["10", "20", "30", "40"]


def test_seven_sata_disks_need_a_second_controller() -> None:
    disks = "".join(
        f"<DISK><DISK_ID>{n}</DISK_ID><TARGET>sd{c}</TARGET><TYPE>FILE</TYPE></DISK>"
        for n, c in enumerate("abcdefg")
    )
    tree = domain(f"<OS><SD_DISK_BUS>sata</SD_DISK_BUS></OS>{disks}")
    assert tree.xpath("//controller[@type='sata']/@index") == ["1"]
    assert tree.xpath("//disk/address/@controller") == ["0"] * 6 + ["1"]
    assert tree.xpath("//disk/address/@unit") == [*map(str, range(6)), "0"]


def test_network_kinds() -> None:
    tree = domain(
        "<NIC><MAC>02:00:00:00:00:01</MAC><MODEL>e1000</MODEL><INBOUND_AVG_BW>10</INBOUND_AVG_BW>"
        "</NIC><NIC><BRIDGE>br1</BRIDGE><BRIDGE_TYPE>openvswitch</BRIDGE_TYPE></NIC>"
    )
    assert tree.xpath("//interface/@type") == ["ethernet", "bridge"]
    assert tree.xpath("//interface/model/@type") == ["e1000", "virtio"]
    assert tree.xpath("//interface/driver/@name") == ["vhost"]
    assert tree.xpath("string(//interface/bandwidth/inbound/@average)") == "10"
    assert tree.xpath("string(//virtualport/@type)") == "openvswitch"


def test_firmware_and_kernel() -> None:
    tree = domain("<OS><FIRMWARE>UEFI</FIRMWARE></OS>")
    assert tree.xpath("string(os/@firmware)") == "efi"
    assert tree.xpath("string(os/firmware/feature/@enabled)") == "no"
    code = "/usr/share/OVMF/OVMF_CODE_4M.fd"
    tree = domain(f"<OS><FIRMWARE>{code}</FIRMWARE></OS>")
    assert tree.findtext("os/loader") == code
    assert tree.findtext("os/nvram") == "/var/lib/one//datastores/101/7/x_VARS.fd"
    tree = domain("<OS><KERNEL>/boot/k</KERNEL><INITRD>/boot/i</INITRD><ROOT>vda1</ROOT></OS>")
    assert tree.findtext("os/kernel") == "/boot/k"
    assert tree.findtext("os/cmdline") == "root=/dev/vda1"


def test_devices_a_migrated_machine_uses() -> None:
    tree = domain(
        "<FEATURES><ACPI>no</ACPI><LOCALTIME>YES</LOCALTIME><HYPERV>yes</HYPERV>"
        "<GUEST_AGENT>no</GUEST_AGENT></FEATURES><VIDEO><TYPE>vga</TYPE><VRAM>16384</VRAM>"
        "<RESOLUTION>800x600</RESOLUTION></VIDEO><INPUT><TYPE>tablet</TYPE><BUS>usb</BUS></INPUT>"
        "<TPM><MODEL>tpm-crb</MODEL></TPM><CPU_MODEL><MODEL>qemu64</MODEL>"
        "<FEATURES>aes, ssse3</FEATURES></CPU_MODEL>"
        "<RAW><TYPE>kvm</TYPE><DATA>&lt;qemu:commandline/&gt;</DATA></RAW>"
        "<RAW><TYPE>xen</TYPE><DATA>not for us</DATA></RAW>"
    )
    assert tree.find("features/acpi") is None
    assert tree.find("features/hyperv/relaxed") is not None
    assert tree.xpath("string(clock/@offset)") == "localtime"
    assert tree.find(".//channel") is None
    assert tree.xpath("string(//video/model/resolution/@x)") == "800"
    assert tree.xpath("string(//input/@bus)") == "usb"
    assert tree.xpath("string(//tpm/backend/@type)") == "emulator"
    assert tree.xpath("//cpu/feature/@name") == ["aes", "ssse3"]
    assert tree.find("{*}commandline") is not None


def test_no_graphics_means_no_display_and_listen_comes_from_the_host() -> None:
    host = etree.fromstring("<TEMPLATE><GRAPHICS><LISTEN>10.0.0.5</LISTEN></GRAPHICS></TEMPLATE>")
    assert domain("", host=host).find(".//graphics") is None
    tree = domain("<GRAPHICS><TYPE>VNC</TYPE><PORT>5907</PORT></GRAPHICS>", host=host)
    assert tree.xpath("string(//graphics/@listen)") == "10.0.0.5"
    assert tree.xpath("string(//graphics/@port)") == "5907"


def test_hostile_values_stay_values() -> None:
    nasty = "a'\"/&gt;&lt;evil/&gt;&amp;"
    tree = domain(
        f"<GRAPHICS><TYPE>vnc</TYPE><PASSWD>{nasty}</PASSWD></GRAPHICS>"
        f"<NIC><MAC>{nasty}</MAC></NIC><CPU_MODEL><MODEL>{nasty}</MODEL></CPU_MODEL>"
    )
    assert tree.find(".//evil") is None
    assert tree.xpath("string(//graphics/@passwd)") == "a'\"/><evil/>&"
