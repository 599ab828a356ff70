"""UUIDs as disk files hold them, in the one form used everywhere here."""

import re
import uuid

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def guid(raw: bytes, *, big_endian: bool = False) -> str | None:
    """16 bytes as a lower-case UUID; None when all are zero, which means "none".

    VDI, VMDK and VHDX store the first three groups little-endian, VHD all big-endian.
    """
    if not any(raw):
        return None
    return str(uuid.UUID(bytes=raw) if big_endian else uuid.UUID(bytes_le=raw))


def plain_uuid(text: str | None) -> str | None:
    """*text* without braces and in lower case; None when it is no UUID or all zero."""
    bare = (text or "").strip().strip("{}").lower()
    if not _UUID.fullmatch(bare) or not bare.strip("0-"):
        return None
    return bare
