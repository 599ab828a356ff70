"""Looking at XML by local names: VirtualBox and OVF files come with and without namespaces."""

from collections.abc import Iterator

from lxml import etree

from one_kvm_migrate.errors import SourceCorrupt
from one_kvm_migrate.tools.xmlsafe import local_name


def each(parent: etree._Element | None, *names: str) -> Iterator[etree._Element]:
    """Children of *parent* with one of *names*, in order; none when *parent* is None."""
    if parent is not None:
        yield from (child for child in parent if local_name(child) in names)


def find(parent: etree._Element | None, *path: str) -> etree._Element | None:
    """The first element down *path*, or None."""
    for name in path:
        parent = next(each(parent, name), None)
    return parent


def attribute(element: etree._Element | None, *names: str) -> str | None:
    """The first attribute with one of *names*, whatever its namespace; stripped."""
    if element is None:
        return None
    values = {etree.QName(str(key)).localname: str(value) for key, value in element.items()}
    return next((values[name].strip() for name in names if name in values), None)


def required(element: etree._Element, name: str, where: str) -> str:
    """The attribute *name*. Raises SourceCorrupt naming *where* and the line when it is missing."""
    value = attribute(element, name)
    if value is None:
        raise SourceCorrupt(
            f"{where}, line {element.sourceline}: {local_name(element)} has no attribute {name!r}"
        )
    return value


def text_of(parent: etree._Element | None, *names: str) -> str | None:
    """Text of the first child with one of *names*, stripped; None when missing or empty."""
    child = next(each(parent, *names), None)
    return ((child.text or "").strip() or None) if child is not None else None


def flag(element: etree._Element | None, name: str, default: bool) -> bool:
    """A boolean attribute as VirtualBox reads it: true, yes, on, 1 or their opposites."""
    value = (attribute(element, name) or "").lower()
    if value in ("true", "yes", "on", "1"):
        return True
    return False if value in ("false", "no", "off", "0") else default


def whole(text: str | None, where: str, *, default: int = 0, largest: int = 1 << 40) -> int:
    """*text* as a whole number from 0 to *largest*; *default* when None.

    Raises SourceCorrupt naming *where*.
    """
    if text is None:
        return default
    try:
        value = int(text.strip(), 10)
    except ValueError as exc:
        raise SourceCorrupt(f"{where} is {text[:40]!r}, which is no whole number") from exc
    if not 0 <= value <= largest:
        raise SourceCorrupt(f"{where} is {text[:40]}, which is not between 0 and {largest}")
    return value
