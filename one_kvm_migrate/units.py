"""Sizes as constants, so that no bare power of two stands in the code."""

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30
SECTOR = 512


def ceil_div(value: int, unit: int) -> int:
    """Whole units needed to hold *value* (both in the same base unit, e.g. bytes)."""
    return -(-value // unit)


def human_bytes(value: int) -> str:
    """*value* (bytes) as people read it: ``1.5 GiB``."""
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
