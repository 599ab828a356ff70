"""Which actions exist, and who does them."""

from one_kvm_migrate.errors import UsageError

PACKAGE = "one_kvm_migrate.vmm.actions"

# Ours, with the names of the arguments that matter (OpenNebula appends more; they are ignored).
OURS: dict[str, tuple[str, ...]] = {
    "cancel": ("deploy_id",),
    "deploy": ("deployment_file",),
    "reboot": ("deploy_id",),
    "reset": ("deploy_id",),
    "resize": ("deploy_id",),
    "shutdown": ("deploy_id",),
}

# Done by OpenNebula's own script in the sibling directory until we have our own.
STOCK = frozenset(
    {
        "attach_disk",
        "attach_nic",
        "detach_disk",
        "detach_nic",
        "exec",
        "exec_cancel",
        "migrate",
        "migrate_local",
        "prereconfigure",
        "reconfigure",
        "resize_disk",
        "restore",
        "save",
        "snapshot_create",
        "snapshot_delete",
        "snapshot_revert",
    }
)


def check_arguments(action: str, argv: tuple[str, ...]) -> None:
    """Raise UsageError unless *argv* holds what *action* needs."""
    if action not in OURS:
        raise UsageError(f"the driver has no action named {action}")
    needed = OURS[action]
    if len(argv) < len(needed) or not all(argv[: len(needed)]):
        raise UsageError(f"{action} needs the argument {' and '.join(needed)}")
