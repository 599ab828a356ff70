"""May this user register images by SOURCE? Better known before hours of conversion."""

from one_kvm_migrate.errors import AuthError
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.xmlread import number, text

MYSELF = -1
ONEADMIN_GROUP = 0


def require_source_right(client: Client) -> None:
    """Return if the user may set an image's SOURCE, raise AuthError otherwise.

    oned lets the oneadmin group do all; for others SOURCE is restricted unless the site took
    it out of IMAGE_RESTRICTED_ATTR (contract §8.3). A configuration that the user may not
    read is taken for the default.
    """
    me = client.document("one.user.info", MYSELF)
    groups = {number(me, "GID", -1)} | {int(item.text or -1) for item in me.findall("GROUPS/ID")}
    if ONEADMIN_GROUP in groups or not _restricted(client):
        return
    raise AuthError(
        f"user {text(me, 'NAME')} may not register images by SOURCE, a restricted attribute",
        hint="Run as a member of the group oneadmin; owners can be changed afterwards.",
    )


def _restricted(client: Client) -> bool:
    try:
        config = client.document("one.system.config")
    except AuthError:
        return True
    return any(item.text == "SOURCE" for item in config.findall("IMAGE_RESTRICTED_ATTR"))
