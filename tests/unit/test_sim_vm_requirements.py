"""Requirement expressions as hosts and datastores are matched with them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_kvm_migrate.sim.vm.requirements import BadExpression, matches

HOST = {"HYPERVISOR": "kvm", "NAME": "node1", "CLUSTER_ID": "0", "FREE_CPU": "150",
        "CLUSTERS/ID": "0,100", "ID": "3"}  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", True),
        ('HYPERVISOR="kvm"', True),
        ("HYPERVISOR = kvm", True),
        ('HYPERVISOR != "kvm"', False),
        ('NAME="node*"', True),
        ('NAME="xen*"', False),
        ("FREE_CPU > 100", True),
        ("FREE_CPU < 99.5", False),
        ("CLUSTER_ID = 0.0", True),
        ("MISSING > 1", False),
        ("(CLUSTER_ID = 0) & !(PIN_POLICY = PINNED)", True),
        ('("CLUSTERS/ID" @> 100) & ("ID" @> 3)', True),
        ('"CLUSTERS/ID" @> 10', False),
        ('NAME="a" | NAME="b" | NAME="node1"', True),
        ('NAME="node1" & HYPERVISOR="qemu" | CLUSTER_ID=0', True),
        ('NAME="node1" & (HYPERVISOR="qemu" | CLUSTER_ID=9)', False),
        ("!CLUSTER_ID = 1", True),
    ],
)
def test_expressions(expression: str, expected: bool) -> None:
    assert matches(expression, lambda name: HOST.get(name, "")) is expected


@pytest.mark.parametrize("expression", ["NAME", "NAME =", "(A = 1", "A = 1 B = 2", "= 1", "A = ="])
def test_nonsense_is_refused(expression: str) -> None:
    with pytest.raises(BadExpression):
        matches(expression, lambda name: "")


@given(st.text(alphabet='AB="()&|!<>@ 01*', max_size=30))
def test_any_text_is_read_or_refused(expression: str) -> None:
    with suppress(BadExpression):
        assert matches(expression, lambda name: "1") in (True, False)
