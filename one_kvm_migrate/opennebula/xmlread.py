"""Reading values out of OpenNebula documents."""

from lxml import etree

from one_kvm_migrate.errors import Rejected

# Parameters of the pool calls: objects of all users, from the first to the last.
ALL = (-2, -1, -1)


def text(element: etree._Element, path: str, default: str = "") -> str:
    """Text at *path* below *element*, or *default*."""
    found = element.findtext(path)
    return default if found is None else found


def number(element: etree._Element, path: str, default: int = 0) -> int:
    """Integer at *path*; *default* when missing or not a number."""
    try:
        return int(text(element, path))
    except ValueError:
        return default


def pick(pool: etree._Element, tag: str, wanted: str, what: str) -> etree._Element:
    """The object of *pool* named or numbered *wanted*, by the rules of the onevm commands.

    Only digits mean an id; names are exact and must be unique. Raises Rejected.
    """
    objects = pool.findall(tag)
    key = "ID" if wanted.isdigit() else "NAME"
    found = [item for item in objects if text(item, key) == wanted]
    if len(found) > 1:
        raise Rejected(
            f"there are {len(found)} {what}s named {wanted}", hint="Give the id instead."
        )
    if not found:
        names = ", ".join(sorted(text(item, "NAME") for item in objects)[:10]) or "none"
        raise Rejected(f"{what} {wanted} does not exist", hint=f"There are: {names}.")
    return found[0]


def owned(pool: etree._Element, tag: str, user: str) -> dict[str, int]:
    """Ids of *user*'s objects of *pool* by name."""
    return {
        text(item, "NAME"): number(item, "ID")
        for item in pool.findall(tag)
        if text(item, "UNAME") == user
    }
