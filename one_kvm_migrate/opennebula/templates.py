"""VM templates: created, found again by marker, deleted, instantiated."""

from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.markers import Marker
from one_kvm_migrate.opennebula.template import Attributes, to_xml
from one_kvm_migrate.opennebula.xmlread import ALL, number, owned, text


def create(client: Client, attributes: Attributes, marker: Marker) -> int:
    """Allocate a VM template and return its id."""
    return client.number("one.template.allocate", to_xml([*attributes, *marker.attributes()]))


def find_by_marker(client: Client, marker: Marker, name: str) -> int | None:
    """Id of the VM template *name* that carries *marker*, or None.

    A user's clone of the template has the same marks but a name of its own.
    """
    for item in client.document("one.templatepool.info", *ALL).findall("VMTEMPLATE"):
        if text(item, "NAME") == name and marker.matches(item.find("TEMPLATE")):
            return number(item, "ID")
    return None


def names(client: Client, user: str) -> dict[str, int]:
    """Ids of *user*'s VM templates by name."""
    return owned(client.document("one.templatepool.info", *ALL), "VMTEMPLATE", user)


def delete(client: Client, marker: Marker, name: str) -> None:
    """Delete the template *name* that carries *marker*, never its images; gone is success."""
    template_id = find_by_marker(client, marker, name)
    if template_id is not None:
        client.call("one.template.delete", template_id, False)


def instantiate(client: Client, template_id: int, name: str, marker: Marker, *, hold: bool) -> int:
    """Make a VM of the template and return its id. With *hold* nothing schedules it."""
    extra = to_xml(marker.attributes())
    return client.number("one.template.instantiate", template_id, name, hold, extra, False)
