"""oned's configuration as a fresh 7.5.80 has it, read from ``oned_config.xml``.

The file is what one.system.config answered, so restricted attributes, TM_MAD_CONF and the
like have one source here; what depends on the machine (paths, keys, port) is added.
"""

import secrets
from importlib import resources
from pathlib import Path

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.template import Template

VERSION = "7.5.80"


class OnedConfig:
    """The configuration of one simulator."""

    def __init__(self, var: Path, one_key: str) -> None:
        text = resources.files(__package__).joinpath("oned_config.xml").read_text("utf-8")
        self._template = Template.from_xml(doc.parse(text))
        # oned joins "/var/lib/one/" and "/datastores": the double slash is in every path.
        self.datastore_location = f"{var}//datastores"
        self._template.set("DATASTORE_LOCATION", self.datastore_location)
        self._template.set("ONE_KEY", one_key)

    def template(self) -> Template:
        """A copy of the whole configuration."""
        return self._template.copy()

    def get(self, name: str) -> str:
        """A plain value."""
        return self._template.get(name)

    def set(self, name: str, value: str) -> None:
        """Change a plain value (the port is known only once the server listens)."""
        self._template.set(name, value)

    def named(self, name: str, key: str) -> dict[str, str] | None:
        """The vector *name* whose NAME is *key*, such as TM_MAD_CONF qcow2; None if unknown."""
        return next((v for v in self._template.vectors(name) if v.get("NAME") == key), None)

    def restricted(self, kind: str) -> list[str]:
        """Attributes of *kind* (vm, image, vnet, user, group) that only admins may set."""
        values = self._template.get_all(f"{kind.upper()}_RESTRICTED_ATTR")
        return [value for value in values if isinstance(value, str)]


def new_key() -> str:
    """A random ONE_KEY, in oned's form."""
    return secrets.token_hex(32)
