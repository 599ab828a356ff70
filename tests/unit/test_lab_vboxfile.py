"""The .vbox file is one that our own reader, and VirtualBox's rules, agree with."""

from pathlib import Path

from lxml import etree

from one_kvm_migrate.lab.vboxfile import VboxDisk, VboxMachine, VboxNic, write_vbox

NS = {"v": "http://www.virtualbox.org/"}
UUID = "11111111-2222-4333-8444-555555555555"


def machine(folder: Path) -> VboxMachine:
    return VboxMachine(
        name="web & co",
        memory_mib=768,
        vcpus=2,
        disks=(
            VboxDisk(path=folder / "disks" / "a.vdi", uuid=UUID),
            VboxDisk(path=Path("/elsewhere/b.vdi"), uuid=UUID.replace("1", "a"), port=3),
        ),
        nics=(
            VboxNic(mac="08:00:27:ab:cd:ef", bridge="br0"),
            VboxNic(mac="08:00:27:00:00:01", slot=1),
        ),
    )


def test_content(tmp_path: Path) -> None:
    path = write_vbox(tmp_path / "m.vbox", machine(tmp_path))
    root = etree.parse(path).getroot()
    assert etree.QName(root).namespace == NS["v"]

    def values(xpath: str) -> list[str]:
        found = root.xpath(xpath, namespaces=NS)
        assert isinstance(found, list)
        return [str(value) for value in found]

    assert values("v:Machine/@name") == ["web & co"]
    assert values("v:Machine/v:MediaRegistry/v:HardDisks/v:HardDisk/@location") == [
        "disks/a.vdi",
        "/elsewhere/b.vdi",
    ]
    assert values("//v:Adapter/@MACAddress") == ["080027ABCDEF", "080027000001"]
    assert values("//v:Adapter[1]/v:BridgedInterface/@name") == ["br0"]
    assert values("//v:Adapter[2]/v:NAT/@localhost-reachable") == ["true"]
    assert values("//v:StorageController/@PortCount") == ["4"]
    registered = values("//v:HardDisk/@uuid")
    assert values("//v:AttachedDevice/v:Image/@uuid") == registered
    assert values("//v:Memory/@RAMSize") == ["768"]
    assert values("//v:CPU/@count") == ["2"]


def test_written_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "m.vbox"
    path.write_text("old")
    write_vbox(path, machine(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.vbox"]
    assert "DO NOT EDIT" in path.read_text("utf-8")
