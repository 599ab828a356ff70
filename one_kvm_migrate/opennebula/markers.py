"""Marks on every object a run makes, so that a lost reply or journal loses no object."""

from dataclasses import dataclass

from lxml import etree

from one_kvm_migrate.opennebula.template import Attributes
from one_kvm_migrate.opennebula.xmlread import text


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Which run and which step made an object."""

    run_id: str
    step: str

    def attributes(self) -> Attributes:
        """The template attributes that carry the mark."""
        return [("OKM_RUN_ID", self.run_id), ("OKM_STEP", self.step)]

    def matches(self, template: etree._Element | None) -> bool:
        """True when *template* (a TEMPLATE or USER_TEMPLATE element) carries this mark."""
        return (
            template is not None
            and text(template, "OKM_RUN_ID") == self.run_id
            and text(template, "OKM_STEP") == self.step
        )
