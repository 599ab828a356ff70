"""OpenNebula templates built so that no value can become an attribute of its own.

Sent as XML, which oned accepts wherever it accepts template text (a first character ``<``
decides, contract §8.1). The text form has no escape for a value ending in a backslash and
guest names come from outside, so text is only made for people to read.
"""

import re
from collections.abc import Mapping, Sequence

from lxml import etree

Value = str | Mapping[str, str]
Attributes = Sequence[tuple[str, Value]]

_NAME = re.compile(r"[A-Za-z0-9_]+\Z")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_xml(attributes: Attributes) -> str:
    """*attributes* as ``<TEMPLATE>…</TEMPLATE>``; repeated names are kept in order."""
    root = etree.Element("TEMPLATE")
    for name, value in attributes:
        element = etree.SubElement(root, _checked(name))
        if isinstance(value, str):
            element.text = clean(value)
            continue
        for key, text in value.items():
            etree.SubElement(element, _checked(key)).text = clean(text)
    xml: str = etree.tostring(root, encoding="unicode")
    return xml


def to_text(attributes: Attributes) -> str:
    """*attributes* in the syntax people know from ``onetemplate``; for showing only."""
    lines = []
    for name, value in attributes:
        if isinstance(value, str):
            lines.append(f"{name} = {_quoted(value)}")
        else:
            inner = ", ".join(f"{key} = {_quoted(text)}" for key, text in value.items())
            lines.append(f"{name} = [ {inner} ]")
    return "\n".join(lines) + "\n"


def clean(value: str) -> str:
    """*value* with what oned's own XML could not carry (controls, ``]]>``) replaced."""
    return _NOT_XML.sub(" ", value).replace("]]>", "]] >")


def _checked(name: str) -> str:
    if not _NAME.match(name) or name[0].isdigit():
        raise ValueError(f"not a template attribute name: {name!r}")
    return name


def _quoted(value: str) -> str:
    return '"' + clean(value).replace('"', '\\"') + '"'
