"""Small helpers on the lxml trees in which objects are kept.

An object's tree has oned's elements in oned's order. Texts that oned writes as CDATA are
written as CDATA here too, so that answers look the same byte for byte where they can.
"""

import re

from lxml import etree

Element = etree._Element

_PARSER = etree.XMLParser(
    strip_cdata=False, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True
)
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def node(tag: str, text: str | int | None = None, *children: Element) -> Element:
    """A new element with plain *text* and *children*."""
    element = etree.Element(tag)
    if text is not None:
        element.text = clean(str(text))
    element.extend(children)
    return element


def cdata(tag: str, text: str | int) -> Element:
    """A new element whose text is written as CDATA."""
    element = etree.Element(tag)
    _set_cdata(element, str(text))
    return element


def clean(text: str) -> str:
    """*text* without characters that XML cannot hold."""
    return _FORBIDDEN.sub("", text)


def _set_cdata(element: Element, text: str) -> None:
    text = clean(text)
    # "]]>" would end the section; plain escaped text says the same.
    element.text = text if "]]>" in text else etree.CDATA(text)


def parse(text: str) -> Element:
    """The tree of *text*, which we wrote ourselves; CDATA sections stay."""
    return etree.fromstring(text.encode(), _PARSER)


def dumps(element: Element) -> str:
    """*element* as text without declaration, as oned answers."""
    return str(etree.tostring(element, encoding="unicode", with_tail=False))


def get(element: Element, path: str, default: str = "") -> str:
    """Text of the first element at *path*; *default* if it is not there."""
    found = element.find(path)
    return default if found is None else (found.text or "")


def get_int(element: Element, path: str, default: int = 0) -> int:
    """Like get(), as a number; *default* also when the text is none."""
    try:
        return int(get(element, path, str(default)))
    except ValueError:
        return default


def put(element: Element, path: str, value: str | int, *, as_cdata: bool = False) -> None:
    """Set the text of the element at *path* (must exist; KeyError otherwise).

    It becomes a CDATA section if asked for, or if the old text was one.
    """
    found = element.find(path)
    if found is None:
        raise KeyError(path)
    if as_cdata or b"<![CDATA[" in etree.tostring(found):
        _set_cdata(found, str(value))
    else:
        found.text = clean(str(value))


def ids(element: Element, path: str) -> list[int]:
    """The <ID> children of the element at *path*, in order."""
    return [int(item.text or "-1") for item in element.findall(f"{path}/ID")]


def add_id(element: Element, path: str, oid: int) -> None:
    """Add <ID> to the list at *path*, keeping it sorted and without doubles."""
    _write_ids(element, path, sorted({*ids(element, path), oid}))


def remove_id(element: Element, path: str, oid: int) -> None:
    """Take <ID> out of the list at *path*; nothing happens when it is not in it."""
    _write_ids(element, path, [known for known in ids(element, path) if known != oid])


def _write_ids(element: Element, path: str, values: list[int]) -> None:
    parent = element.find(path)
    if parent is None:
        raise KeyError(path)
    for old in parent.findall("ID"):
        parent.remove(old)
    parent.extend(node("ID", value) for value in values)


def replace(element: Element, path: str, new: Element) -> None:
    """Put *new* in the place of the element at *path*."""
    old = element.find(path)
    if old is None:
        raise KeyError(path)
    parent = old.getparent()
    assert parent is not None
    parent.replace(old, new)
