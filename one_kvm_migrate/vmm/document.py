"""What OpenNebula writes to a driver script's stdin."""

import binascii
import xml.etree.ElementTree as ET

from one_kvm_migrate.errors import UsageError


def plain(data: bytes) -> bytes:
    """*data* as XML text: an action that runs on the front-end gets it in base64.

    Raises UsageError when it is neither.
    """
    stripped = data.strip()
    if stripped.startswith(b"<"):
        return data
    try:
        decoded = binascii.a2b_base64(stripped, strict_mode=True) if stripped else b""
    except binascii.Error:
        decoded = b""
    if not decoded.lstrip().startswith(b"<"):
        raise UsageError("standard input holds neither XML nor base64 of XML")
    return decoded


def parse(data: bytes, what: str) -> ET.Element:
    """The root element of *data* (XML or base64 of it). UsageError names *what*."""
    text = plain(data)
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise UsageError(f"{what} is not well-formed XML: {error}") from error


def value(root: ET.Element, path: str) -> str:
    """The stripped text at *path* below *root*, "" when there is none."""
    return (root.findtext(path) or "").strip()
