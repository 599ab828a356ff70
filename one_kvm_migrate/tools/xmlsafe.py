"""The one parser for XML that comes from outside.

No entities, no DTD, no network, bounded size. Wild files are met as they are: byte-order
marks and control characters that old VirtualBox versions wrote are dropped before parsing.
"""

import re
from pathlib import Path

from lxml import etree

from one_kvm_migrate.errors import SourceCorrupt, SourceError, SourceUnsafe
from one_kvm_migrate.units import MiB

MAX_XML_BYTES = 32 * MiB
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def parse_bytes(data: bytes, *, where: str) -> etree._Element:
    """Root element of *data*. *where* names the source in errors.

    Raises SourceCorrupt (not XML, too large) and SourceUnsafe (DTD or entities).
    """
    if len(data) > MAX_XML_BYTES:
        raise SourceCorrupt(f"{where} is larger than {MAX_XML_BYTES} bytes")
    if not data[:4].startswith((b"\xff\xfe", b"\xfe\xff")):
        data = _CONTROL.sub(b"", data)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data.lstrip(), parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        reason = getattr(exc, "msg", None) or str(exc)
        raise SourceCorrupt(
            f"{where} is not valid XML: {reason}", hint="Restore it from a backup or export again."
        ) from exc
    if root.getroottree().docinfo.internalDTD is not None:
        raise SourceUnsafe(
            f"{where} declares a document type", hint="Remove the DOCTYPE; machines never need one."
        )
    return root


def parse_file(path: Path) -> etree._Element:
    """Root element of the file *path*; raises SourceError when it cannot be read."""
    try:
        if not path.is_file():
            raise SourceError(f"{path} is not a file", hint="Check the path.")
        with path.open("rb") as stream:
            data = stream.read(MAX_XML_BYTES + 1)
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror}", hint="Check the path.") from exc
    return parse_bytes(data, where=str(path))


def local_name(element: etree._Element) -> str:
    """Tag without its namespace; empty for comments and instructions."""
    tag = element.tag
    return etree.QName(tag).localname if isinstance(tag, str) else ""
