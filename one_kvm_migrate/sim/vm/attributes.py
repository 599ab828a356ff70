"""Attribute look-up for the deployment file: machine, then host, cluster, driver defaults."""

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from one_kvm_migrate.sim.vm import defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything outside the machine's document that goes into its deployment file."""

    domain_type: str
    system_dir: str
    deployment_time: int
    emulator: str = ""
    host: etree._Element | None = None
    cluster: etree._Element | None = None


class Attributes:
    """Values of one machine. Sub-keys are resolved one by one, as oned does."""

    def __init__(self, vm: etree._Element, around: Surroundings) -> None:
        self.vm = vm
        self.around = around
        template = vm.find("TEMPLATE")
        self.template = template if template is not None else etree.Element("TEMPLATE")

    def vectors(self, name: str) -> Iterator[etree._Element]:
        """All vector attributes *name* of the machine, in document order."""
        return self.template.iterfind(name)

    def has(self, name: str) -> bool:
        """True when the machine itself has *name*."""
        return self.template.find(name) is not None

    def own(self, name: str, key: str = "") -> str:
        """Value in the machine's template only."""
        return _text(self.template, name, key)

    def get(self, name: str, key: str = "") -> str:
        """Value from the machine, or from its surroundings."""
        return self.own(name, key) or self.outside(name, key)

    def outside(self, name: str, key: str = "") -> str:
        """Value from host, cluster or defaults: what a machine cannot override."""
        for place in (self.around.host, self.around.cluster):
            found = _text(place, name, key) if place is not None else ""
            if found:
                return found
        if key:
            return defaults.VECTOR.get((name, key), "")
        return defaults.SINGLE.get(name, "")

    def yes(self, name: str, key: str) -> bool:
        """True for YES in any letter case, as oned reads booleans."""
        return self.get(name, key).upper() == "YES"

    def vcpus(self) -> int:
        """Virtual CPUs the machine starts with."""
        return number(self.own("VCPU"), 1)

    def auto(self, queues: str) -> str:
        """A queue count where ``auto`` means one per virtual CPU."""
        return str(self.vcpus()) if queues.lower() == "auto" else queues


def value(vector: etree._Element, key: str) -> str:
    """Sub-key *key* of a vector attribute; empty when missing."""
    return (vector.findtext(key) or "").strip()


def number(text: str, default: int) -> int:
    """*text* as a whole number, or *default* when it is none."""
    try:
        return int(text)
    except ValueError:
        return default


def _text(place: etree._Element, name: str, key: str) -> str:
    return (place.findtext(f"{name}/{key}" if key else name) or "").strip()
