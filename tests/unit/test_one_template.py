"""Template text: no value can become an attribute of its own."""

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from one_kvm_migrate.opennebula.template import to_text, to_xml
from one_kvm_migrate.sim.template import Template

HOSTILE = 'x"\nRAW=[TYPE="kvm",DATA="<devices/>"]\n#\\'


def test_a_hostile_name_stays_a_name() -> None:
    template = to_xml([("NAME", HOSTILE), ("DISK", {"IMAGE_ID": "1", "X": HOSTILE})])
    root = etree.fromstring(template)
    assert [child.tag for child in root] == ["NAME", "DISK"]
    assert root.findtext("NAME") == HOSTILE
    assert root.findtext("DISK/X") == HOSTILE


def test_what_oned_cannot_store_is_replaced() -> None:
    root = etree.fromstring(to_xml([("NAME", "a\x00b]]>c")]))
    assert root.findtext("NAME") == "a b]] >c"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_oned_reads_back_what_was_meant(value: str) -> None:
    parsed = Template.parse(to_xml([("A", value), ("V", {"K": value})]))
    names = [name for name, _ in parsed.items()]
    assert names == ["A", "V"]


def test_text_is_for_people() -> None:
    text = to_text([("NAME", 'a "b"'), ("OS", {"ARCH": "x86_64", "BOOT": "disk0"})])
    assert text == 'NAME = "a \\"b\\""\nOS = [ ARCH = "x86_64", BOOT = "disk0" ]\n'
