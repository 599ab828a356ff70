"""Placement expressions: AUTOMATIC_* requirements, and evaluation of the common forms."""

import fnmatch
import re
from collections.abc import Callable

from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.template import Template

_TOKEN = re.compile(r'\s*(?:(@>|!=|[=<>!&|()])|"([^"]*)"|([^\s=<>!&|()"]+))')

Lookup = Callable[[str], str]


class BadExpression(ValueError):
    """The text is no requirement expression we know."""


def add_automatic(call: Call, template: Template) -> None:
    """Set the AUTOMATIC_* attributes of a machine from its disks and NICs."""
    clusters = _common([*template.vectors("DISK"), *template.vectors("NIC")])
    if clusters is None:
        template.set("AUTOMATIC_REQUIREMENTS", "!(PIN_POLICY = PINNED)")
        return
    names = " | ".join(f"CLUSTER_ID = {number}" for number in clusters)
    template.set("AUTOMATIC_REQUIREMENTS", f"({names}) & !(PIN_POLICY = PINNED)")
    ids = " | ".join(f'"CLUSTERS/ID" @> {number}' for number in clusters)
    template.set("AUTOMATIC_NIC_REQUIREMENTS", f"({ids})")
    wanted = f"({ids})"
    systems = _compatible(call, template)
    if systems:
        wanted += " & (" + " | ".join(f'"ID" @> {number}' for number in systems) + ")"
    template.set("AUTOMATIC_DS_REQUIREMENTS", wanted)


def _common(vectors: list[dict[str, str]]) -> list[int] | None:
    """Clusters that all of *vectors* are in; None when none of them is bound to clusters."""
    sets = [
        {int(word) for word in vector["CLUSTER_ID"].split(",") if word}
        for vector in vectors
        if vector.get("CLUSTER_ID")
    ]
    return sorted(set.intersection(*sets)) if sets else None


def _compatible(call: Call, template: Template) -> list[int]:
    numbers: list[int] = []
    for disk in template.vectors("DISK"):
        datastore = call.sim.store.find("datastore", int(disk.get("DATASTORE_ID") or -1))
        text = datastore.template().get("COMPATIBLE_SYS_DS") if datastore else ""
        numbers += [int(word) for word in text.split(",") if word.strip().isdigit()]
    return sorted(set(numbers))


def matches(expression: str, lookup: Lookup) -> bool:
    """True if *expression* holds for the object whose attributes *lookup* gives.

    ``NAME op value`` with ``= != < > @>``, combined with ``& | !`` and parentheses; ``*`` in a
    value is a wildcard. An empty expression holds. Raises BadExpression for anything else.
    """
    tokens = _tokens(expression)
    if not tokens:
        return True
    parser = _Parser(tokens, lookup)
    value = parser.alternatives()
    if parser.left():
        raise BadExpression(expression)
    return value


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    text = expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadExpression(expression)
        at = match.end()
        operator, quoted, word = match.groups()
        if operator:
            tokens.append(("op", operator))
        else:
            tokens.append(("word", quoted if quoted is not None else word))
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], lookup: Lookup) -> None:
        self._tokens = tokens
        self._lookup = lookup

    def left(self) -> bool:
        return bool(self._tokens)

    def _take(self, operator: str) -> bool:
        if self._tokens[:1] == [("op", operator)]:
            self._tokens.pop(0)
            return True
        return False

    def _next(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise BadExpression("unexpected end or word")
        return self._tokens.pop(0)[1]

    def alternatives(self) -> bool:
        value = self._all()
        while self._take("|"):
            value = self._all() or value
        return value

    def _all(self) -> bool:
        value = self._one()
        while self._take("&"):
            value = self._one() and value
        return value

    def _one(self) -> bool:
        if self._take("!"):
            return not self._one()
        if self._take("("):
            value = self.alternatives()
            if not self._take(")"):
                raise BadExpression("a parenthesis is open")
            return value
        name, operator, wanted = self._next("word"), self._next("op"), self._next("word")
        return _compare(self._lookup(name), operator, wanted)


def _compare(found: str, operator: str, wanted: str) -> bool:
    if operator == "@>":
        return wanted in found.split(",")
    if operator in ("=", "!="):
        equal = _number(found) == _number(wanted) if _both(found, wanted) else False
        equal = equal or fnmatch.fnmatchcase(found, wanted)
        return equal == (operator == "=")
    if operator in ("<", ">") and _both(found, wanted):
        less = _number(found) < _number(wanted)
        return less if operator == "<" else _number(found) > _number(wanted)
    return False


def _number(text: str) -> float:
    return float(text)


def _both(*texts: str) -> bool:
    return all(re.fullmatch(r"-?\d+(\.\d+)?", text) for text in texts)
