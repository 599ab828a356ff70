"""Network step: a guest's own MAC address must lie in a range of the network."""

from one_kvm_migrate.opennebula import networks
from one_kvm_migrate.pipeline.steps.base import Result, StepContext


class MacStep:
    """Add a one-address range for a MAC the network does not hold yet."""

    def __init__(self, index: int, mac: str, network_id: int) -> None:
        self.mac = mac
        self.network_id = network_id
        self.name = f"mac:{index}"

    def act(self, ctx: StepContext) -> Result:
        """Add the range; ``added`` is False when the network held the MAC before."""
        present = networks.range_of_mac(ctx.client, self.network_id, self.mac)
        if present is not None:
            return {"range_id": present, "added": False}
        marker = ctx.marker(self.name)
        added = networks.add_mac_range(ctx.client, self.network_id, self.mac, marker)
        return {"range_id": added, "added": True}

    def recover(self, ctx: StepContext) -> Result | None:
        """Look the range up by its mark; any other range was there before."""
        marker = ctx.marker(self.name)
        present = networks.find_range_by_marker(ctx.client, self.network_id, marker)
        return None if present is None else {"range_id": present, "added": True}

    def undo(self, ctx: StepContext) -> None:
        """Remove the range that carries our mark, if there is one."""
        networks.remove_range(ctx.client, self.network_id, ctx.marker(self.name))
