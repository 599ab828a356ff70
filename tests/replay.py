"""Replays what a real OpenNebula 7.5.80 was asked to a fresh simulator, call by call.

Answers are compared element by element, in order. Only what cannot be the same is evened
out: times, random names and passwords, paths of the temporary directory, measured numbers.
"""

import base64
import binascii
import re
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

RECORDED_VAR = "/var/lib/one"
RECORDED_IMAGES = "/var/tmp/images"
RECORDED_GUESTS = "/var/tmp/guests"

_TIMES = re.compile(
    r".*\}(deployment_time|stime)$|(REG|MOD|TIMESTAMP|[PRE]?[SE]TIME|LAST_POLL|LAST_MON)(TIME)?$|^(TIME|DATE)$"
)
_MD5 = re.compile(r"\b[0-9a-f]{32}\b")
_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_DATE = re.compile(r"^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
# Free space and load at the moment of the recording.
_MEASURED = {
    "TOTAL_MB", "FREE_MB", "USED_MB", "FREE_DISK", "MAX_DISK", "USED_DISK", "FREE_CPU",
    "FREE_MEMORY", "USED_CPU", "USED_MEMORY", "NETRX", "NETTX", "FREE", "USED",
}  # fmt: skip
# What the guest used; one sample is compared like the other.
_USAGE = {
    "CPU", "MEMORY", "DISKRDBYTES", "DISKRDIOPS", "DISKWRBYTES", "DISKWRIOPS",
}  # fmt: skip
_ELSEWHERE = {("PORT", "OPENNEBULA_CONFIGURATION")}
# Console ports start elsewhere, so that tests can run beside real machines.
VNC_SHIFT = 40000
_SECRET = {"TOKEN_PASSWORD", "ONE_KEY"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded call with its answer."""

    number: int
    method: str
    label: str
    params: tuple[Any, ...]
    answer: list[Any]

    @property
    def title(self) -> str:
        """Name of the test."""
        return f"{self.number}-{self.method.removeprefix('one.')}-{self.label}"


def load(directory: Path) -> list[Recorded]:
    """All recorded calls, in order."""
    calls = []
    for path in sorted(directory.glob("*.request.xml")):
        params, method = xmlrpc.client.loads(path.read_bytes())
        answer_path = path.with_name(path.name.replace(".request.", ".response."))
        answer = xmlrpc.client.loads(answer_path.read_bytes())[0][0]
        assert method is not None and isinstance(answer, list)
        number, _, rest = path.name.removesuffix(".request.xml").partition("-")
        label = rest.removeprefix(f"{method}-")
        calls.append(Recorded(int(number), method, label, params, answer))
    return calls


class Paths:
    """Recorded paths to ours and back."""

    def __init__(self, var: Path, images: Path) -> None:
        self._pairs = (
            (RECORDED_VAR, str(var)),
            (RECORDED_IMAGES, str(images)),
            (RECORDED_GUESTS, f"{images}-guests"),
        )

    def ours(self, value: Any) -> Any:
        """*value* of a recorded request as we ask it."""
        if isinstance(value, str):
            for recorded, own in self._pairs:
                value = value.replace(recorded, own)
        return value

    def recorded(self, text: str) -> str:
        """*text* of our answer with the recorded paths."""
        for recorded, own in reversed(self._pairs):
            text = text.replace(own, recorded)
        return text


def differences(recorded: list[Any], ours: list[Any], paths: Paths) -> list[str]:
    """What differs between two answers, as readable lines."""
    if [type(item) for item in recorded] != [type(item) for item in ours]:
        return [f"shape: recorded {_short(recorded)}, ours {_short(ours)}"]
    found: list[str] = []
    for place, (theirs, own) in enumerate(zip(recorded, ours, strict=True)):
        if isinstance(theirs, str):
            found += _texts(f"[{place}]", theirs, _with_recorded_paths(own, paths))
        elif theirs != own:
            found.append(f"[{place}]: recorded {theirs}, ours {own}")
    return found


def _with_recorded_paths(text: str, paths: Paths) -> str:
    """*text* with the recorded paths, also inside of the base64 that hook logs hold."""
    if not text.startswith("<") or "HOOK_EXECUTION_RECORD" not in text:
        return paths.recorded(text)
    root = etree.fromstring(text)
    for element in root.iter("ARGUMENTS", "COMMAND", "STDERR", "STDOUT"):
        *head, last = (element.text or "").rsplit(" ", 1)
        try:
            decoded = base64.b64decode(last).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
        if base64.b64encode(decoded.encode()).decode() == last.replace("\n", ""):
            again = base64.b64encode(paths.recorded(decoded).encode()).decode()
            element.text = " ".join([*head, again])
    return paths.recorded(etree.tostring(root, encoding="unicode"))


def _short(answer: list[Any]) -> str:
    return repr([item[:300] if isinstance(item, str) else item for item in answer])


def document_differences(where: str, recorded: str, ours: str) -> list[str]:
    """What differs between two texts with the recorded paths, as readable lines."""
    return [f"{where}: {line}" for line in _texts("", recorded, ours)]


def _texts(where: str, recorded: str, ours: str) -> list[str]:
    if recorded.startswith("<") and ours.startswith("<"):
        return _elements(etree.fromstring(recorded), etree.fromstring(ours))
    if _even_out(recorded) != _even_out(ours):
        return [f"{where}: recorded {recorded[:300]!r}, ours {ours[:300]!r}"]
    return []


def _elements(recorded: etree._Element, ours: etree._Element, path: str = "") -> list[str]:
    path = f"{path}/{recorded.tag}"
    if recorded.tag != ours.tag:
        return [f"{path}: ours is {ours.tag}"]
    tags = [[str(item.tag) for item in element] for element in (recorded, ours)]
    if tags[0] != tags[1]:
        return [f"{path}: recorded {_more(tags[0], tags[1])}, ours {_more(tags[1], tags[0])}"]
    if not len(recorded):
        return _leaves(path, recorded, ours)
    pairs = zip(recorded, ours, strict=True)
    return [line for theirs, own in pairs for line in _elements(theirs, own, path)]


def _more(tags: list[str], others: list[str]) -> str:
    extra = [tag for tag in tags if tag not in others]
    return f"has {extra}" if extra else f"order {tags}"


def _leaves(path: str, recorded: etree._Element, ours: etree._Element) -> list[str]:
    theirs, own = recorded.text or "", ours.text or ""
    if recorded.tag in ("ARGUMENTS", "COMMAND"):
        head, document = _document(theirs)
        own_head, own_document = _document(own)
        if document is not None and own_document is not None and head == own_head:
            return _elements(document, own_document, f"{path}:{head.strip()}")
    first, second = (_leaf(recorded, theirs), _leaf(ours, own))
    return [] if first == second else [f"{path}: recorded {first!r}, ours {second!r}"]


def _document(text: str) -> tuple[str, etree._Element | None]:
    head, _, last = text.rpartition(" ")
    try:
        return head, etree.fromstring(base64.b64decode(last, validate=True))
    except (binascii.Error, etree.XMLSyntaxError):
        return text, None


def _leaf(element: etree._Element, text: str) -> str:
    tag = str(element.tag)
    parent = element.getparent()
    above = "" if parent is None else str(parent.tag)
    random_password = tag == "PASSWD" and re.fullmatch("[0-9a-f]{8}", text)
    if tag in _SECRET or random_password or (tag == "PASSWORD" and _of_server(element)):
        return "SECRET"
    if _TIMES.match(tag) and text.isdigit() and text != "0":
        return "TIME"
    if tag in _MEASURED or (tag, above) in _ELSEWHERE or (tag in _USAGE and above == "MONITORING"):
        return _NUMBER.sub("NUMBER", text)
    if tag == "REQUEST_ID" and text != "-1":
        return "NUMBER"
    if tag == "PORT" and above == "GRAPHICS" and int(text) > VNC_SHIFT:
        return str(int(text) - VNC_SHIFT)
    if tag in ("STDERR", "STDOUT"):
        text = base64.b64decode(text).decode()
    return _even_out(text)


def _of_server(element: etree._Element) -> bool:
    user = element.getparent()
    return user is not None and user.findtext("AUTH_DRIVER") == "server_cipher"


def _even_out(text: str) -> str:
    text = _DATE.sub("DATE", text)
    return _UUID.sub("UUID", _MD5.sub("MD5", text))
