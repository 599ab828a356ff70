"""Whatever a machine file says, inspect answers with machines or with one of our errors."""

import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from lxml import etree

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.model import SourceVm
from one_kvm_migrate.sources.base import inspect
from tests.unit.test_ovf import mail
from tests.unit.test_vbox import lager, web01

DATA = Path(__file__).parents[1] / "data"
SAMPLES = sorted([*DATA.glob("vbox/*"), *DATA.glob("ovf/*")])
WEIRD = [
    "",
    " ",
    "-1",
    "0x10",
    "1e9",
    "9" * 5000,
    "\u0661\u0662",
    "../../etc/passwd",
    "/dev/zero",
    "{00000000-0000-0000-0000-000000000000}",
    "byte * 0^0",
    "byte * 9999^999",
    "true",
    "ovf:/disk/",
    "ovf:/file/file1",
    "json:{}",
    "a" * 300,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disks that the samples name."""
    path = tmp_path_factory.mktemp("machines")
    web01(path)
    lager(path)
    mail(path)
    return path


@seed(20261124)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_changed_machine_files(folder: Path, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(SAMPLES))
    root = etree.fromstring(sample.read_bytes())
    elements = [element for element in root.iter() if isinstance(element.tag, str)]
    for _ in range(data.draw(st.integers(1, 3))):
        element = data.draw(st.sampled_from(elements))
        change = data.draw(st.sampled_from(["attribute", "text", "remove", "double"]))
        parent = element.getparent()
        if change == "attribute" and element.attrib:
            name = data.draw(st.sampled_from(sorted(map(str, element.attrib))))
            element.set(name, data.draw(st.sampled_from(WEIRD)))
        elif change == "text":
            element.text = data.draw(st.sampled_from(WEIRD))
        elif change == "remove" and parent is not None:
            parent.remove(element)
        elif change == "double" and parent is not None:
            parent.append(etree.fromstring(etree.tostring(element)))
    changed = folder / f"changed{sample.suffix}"
    changed.write_bytes(etree.tostring(root))
    source = changed
    if sample.suffix == ".ovf" and data.draw(st.booleans()):
        source = folder / "changed.ova"
        with tarfile.open(source, "w") as archive:
            for file in (changed, folder / "mail-disk001.vmdk"):
                archive.add(file, arcname=file.name)
    try:
        machines = inspect(source)
    except OkmError as exc:
        assert len(exc.sentence()) < 1500
        return
    assert machines
    for machine in machines:
        assert isinstance(machine, SourceVm)
        assert machine.as_dict()["name"] == machine.name
        assert all(disk.chain[-1] == disk.path for disk in machine.disks)
