"""How a handler refuses a call: oned's error codes and texts."""

from enum import IntEnum


class Code(IntEnum):
    """oned's error codes (include/Request.h)."""

    AUTHENTICATION = 0x0100
    AUTHORIZATION = 0x0200
    NO_EXISTS = 0x0400
    ACTION = 0x0800
    XML_RPC_API = 0x1000
    INTERNAL = 0x2000
    ALLOCATE = 0x4000
    LOCKED = 0x8000


class OnedError(Exception):
    """A refused call. ``text`` comes without the "[one.x.y] " prefix, which rpc adds.

    ``object_id`` is what oned puts into the fourth element of the answer, -1 if nothing.
    """

    def __init__(self, code: Code, text: str, object_id: int = -1) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.object_id = object_id


def no_exists(label: str, oid: int) -> OnedError:
    """The error for an object that is not there; *label* as oned calls the kind."""
    return OnedError(Code.NO_EXISTS, f"Error getting {label} [{oid}].", oid)
