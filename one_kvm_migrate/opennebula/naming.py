"""Names that OpenNebula takes, whatever the machine was called before."""

MAX_NAME_BYTES = 128
# "-disk15" and the like must still fit.
MAX_BASE_BYTES = MAX_NAME_BYTES - 8
# PoolObjectSQL::INVALID_NAME_CHARS of oned, which some versions enforce for some objects;
# "&" and "<" would also break the title of the libvirt domain, which oned does not escape.
UNWANTED = frozenset("&|:\\\";/'#{}$<>")


def safe_name(name: str) -> str:
    """*name* with what oned may refuse replaced by ``-``, at most MAX_BASE_BYTES long (UTF-8)."""
    plain = "".join(c if c.isprintable() and c not in UNWANTED else "-" for c in name).strip()
    short = plain.encode()[:MAX_BASE_BYTES].decode("utf-8", "ignore").strip()
    return short or "machine"
