"""OpenNebula's template language: ``NAME = value`` and ``NAME = [ KEY = value, … ]``.

Read as oned's scanner reads it, oddities included: outside of a value every character
that fits nothing is skipped, so ``PATH= bad [`` is PATH "bad". XML is taken as well.
"""

import re
from collections.abc import Iterator

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.tools import xmlsafe

Value = str | dict[str, str]

_BLANK = r"[ \t]"
_INITIAL = re.compile(
    rf"(?P<comment>{_BLANK}*\#[^\n]*(?:\n|\Z))"
    rf"|(?P<empty>{_BLANK}*={_BLANK}*\n)"
    rf"|(?P<equal>{_BLANK}*={_BLANK}*)"
    rf"|(?P<comma>[ \t\n]*,[ \t\n]*)"
    rf"|(?P<close>[ \t\n]*\][ \t\n]*)"
    rf"|(?P<blank>[ \t\n]+)"
    rf"|(?P<name>[A-Za-z0-9_]+)"
    rf"|(?P<skip>.)",
    re.DOTALL,
)
_VALUE = re.compile(
    rf"(?P<cdata>[^\n]*\]\]>[^\n]*)"
    rf"|(?P<open>{_BLANK}*\[[ \t\n]*)"
    rf'|"(?P<quoted>(?:\\"|[^"])*)"'
    rf"|(?P<bare>[^=\#\s,\[\]]+)"
    rf"|(?P<skip>.)",
    re.DOTALL,
)
_TOKEN = {"name": "VARIABLE", "comma": "COMMA", "close": "CBRACKET", "equal": "EQUAL"}


class Template:
    """An ordered multi-map NAME -> text or {KEY: text}. Names are upper case."""

    def __init__(self, items: list[tuple[str, Value]] | None = None) -> None:
        self._items: list[tuple[str, Value]] = list(items or [])

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Template of *text* (template syntax, or XML if it starts with ``<``).

        Raises OnedError(INTERNAL) with a parser message.
        """
        if text.startswith("<"):
            return cls._parse_xml(text)
        return cls(list(_parse_items(text)))

    @classmethod
    def _parse_xml(cls, text: str) -> "Template":
        try:
            root = xmlsafe.parse_bytes(text.encode(), where="the template")
        except OkmError as exc:
            raise OnedError(Code.INTERNAL, f"Parse error: {exc.message}") from exc
        return cls.from_xml(root)

    @classmethod
    def from_xml(cls, root: Element) -> "Template":
        """Template of the children of *root*."""
        items: list[tuple[str, Value]] = []
        for child in root:
            if not isinstance(child.tag, str):
                continue
            if len(child):
                vector = {str(leaf.tag).upper(): leaf.text or "" for leaf in child}
                items.append((child.tag.upper(), vector))
            else:
                items.append((child.tag.upper(), (child.text or "")))
        return cls(items)

    def to_xml(self, root: str = "TEMPLATE") -> Element:
        """The template as oned prints it: sorted by name, vectors by key, CDATA values."""
        element = node(root)
        for name, value in sorted(self._items, key=lambda item: item[0]):
            if isinstance(value, dict):
                leaves = [cdata(key, value[key]) for key in sorted(value)]
                element.append(node(name, None, *leaves))
            else:
                element.append(cdata(name, value))
        return element

    def items(self) -> Iterator[tuple[str, Value]]:
        """All pairs in the order they were added."""
        return iter(list(self._items))

    def names(self) -> set[str]:
        """The names that occur."""
        return {name for name, _ in self._items}

    def has(self, name: str) -> bool:
        """True if *name* occurs, even when empty."""
        return name in self.names()

    def get(self, name: str, default: str = "") -> str:
        """The first plain value of *name*."""
        return next((v for n, v in self._items if n == name and isinstance(v, str)), default)

    def get_all(self, name: str) -> list[Value]:
        """All values of *name*, plain or vector."""
        return [value for known, value in self._items if known == name]

    def vectors(self, name: str) -> list[dict[str, str]]:
        """All vectors called *name*; changing one changes the template."""
        return [v for n, v in self._items if n == name and isinstance(v, dict)]

    def vector(self, name: str) -> dict[str, str] | None:
        """The first vector called *name*; changing it changes the template."""
        return next(iter(self.vectors(name)), None)

    def yes(self, name: str) -> bool:
        """oned's booleans: only YES, in any letter case, is true."""
        return is_yes(self.get(name))

    def add(self, name: str, value: Value) -> None:
        """Add one more *name*."""
        self._items.append((name.upper(), value))

    def set(self, name: str, value: Value) -> None:
        """Make *value* the only one of *name*."""
        self.remove(name.upper())
        self.add(name, value)

    def remove(self, name: str) -> list[Value]:
        """Take out and return all values of *name*."""
        taken = self.get_all(name)
        self._items = [item for item in self._items if item[0] != name]
        return taken

    def merge(self, other: "Template") -> None:
        """For each name in *other*: drop ours, take theirs."""
        for name in other.names():
            self.remove(name)
        for name, value in other.copy().items():
            self.add(name, value)

    def copy(self) -> "Template":
        """An independent copy."""
        return Template([(n, dict(v) if isinstance(v, dict) else v) for n, v in self._items])


def is_yes(text: str) -> bool:
    """True for YES in any letter case, and for nothing else."""
    return text.upper() == "YES"


def _parse_items(text: str) -> Iterator[tuple[str, Value]]:
    scanner = _Scanner(text)
    while (token := scanner.next()) is not None:
        kind, name = token
        if kind != "name":
            raise scanner.error(kind, "$end or VARIABLE")
        kind, _ = scanner.expect("equal", "empty")
        if kind == "empty":
            yield name.upper(), ""
            continue
        kind, value = scanner.value()
        yield name.upper(), _vector(scanner) if kind == "open" else value


def _vector(scanner: "_Scanner") -> dict[str, str]:
    vector: dict[str, str] = {}
    kind, name = scanner.expect("name", "close")
    while kind == "name":
        scanner.expect("equal")
        kind, value = scanner.value()
        if kind == "open":
            raise scanner.error("open", "STRING")
        vector.setdefault(name.upper(), value)
        if scanner.expect("comma", "close")[0] == "close":
            break
        kind, name = scanner.expect("name")
    return vector


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text.removeprefix("\ufeff")
        self._at = 0
        self._start = 0

    def next(self) -> tuple[str, str] | None:
        while self._at < len(self._text):
            match = _INITIAL.match(self._text, self._at)
            assert match is not None and match.lastgroup is not None
            self._start, self._at = match.span()
            if match.lastgroup not in ("comment", "blank", "skip"):
                return match.lastgroup, match.group().strip()
        self._start = self._at
        return None

    def expect(self, *kinds: str) -> tuple[str, str]:
        token = self.next()
        if token is None or token[0] not in kinds:
            wanted = " or ".join(_TOKEN.get(kind, "EQUAL_EMPTY") for kind in kinds)
            raise self.error("$end" if token is None else token[0], wanted)
        return token

    def value(self) -> tuple[str, str]:
        while self._at < len(self._text):
            match = _VALUE.match(self._text, self._at)
            assert match is not None and match.lastgroup is not None
            self._start, self._at = match.span()
            if match.lastgroup == "cdata":
                raise OnedError(Code.INTERNAL, "Parse error: ]]> is not allowed in a value")
            if match.lastgroup != "skip":
                text = match.group(match.lastgroup)
                return match.lastgroup, text.replace('\\"', '"')
        raise self.error("$end", "STRING or OBRACKET")

    def error(self, kind: str, wanted: str) -> OnedError:
        before = self._text[: self._start]
        line = before.count("\n") + 1
        column = self._start - (before.rfind("\n") + 1)
        found = _TOKEN.get(kind, "OBRACKET" if kind == "open" else kind)
        return OnedError(
            Code.INTERNAL,
            f"Parse error: syntax error, unexpected {found}, expecting {wanted} "
            f"at line {line}, columns {column}:{column + self._at - self._start}",
        )
