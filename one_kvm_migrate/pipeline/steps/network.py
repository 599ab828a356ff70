"""Network step: a guest's own MAC address must lie in a range of the network."""

from one_kvm_migrate.opennebula import networks
from one_kvm_migrate.pipeline.steps.base import Result, StepContext


class MacStep:
    """Add a one-address range for a MAC the network does not hold yet."""

    def __init__(self, index: int, mac: str) -> None:
        self.mac = mac
        self.name = f"mac:{index}"

    def act(self, ctx: StepContext) -> Result:
        """Add the range; ``added`` is False when the network held the MAC before."""
        assert ctx.plan.network is not None
        network = ctx.plan.network.id
        present = networks.range_of_mac(ctx.client, network, self.mac)
        if present is not None:
            return {"range_id": present, "added": False}
        return {"range_id": networks.add_mac_range(ctx.client, network, self.mac), "added": True}

    def recover(self, ctx: StepContext) -> Result | None:
        """Our ranges carry a mark of their own; any other range was there before."""
        assert ctx.plan.network is not None
        present = networks.own_range_of_mac(ctx.client, ctx.plan.network.id, self.mac)
        return None if present is None else {"range_id": present, "added": True}

    def undo(self, ctx: StepContext, result: Result | None) -> None:
        """Remove the range if this run added it."""
        found = result or self.recover(ctx)
        if found and found["added"]:
            assert ctx.plan.network is not None
            networks.remove_range(ctx.client, ctx.plan.network.id, found["range_id"])
