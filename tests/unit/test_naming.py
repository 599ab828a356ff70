"""Names that OpenNebula takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_kvm_migrate.opennebula.naming import MAX_BASE_BYTES, UNWANTED, safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("web 1", "web 1"),
        ("R&D <srv>", "R-D -srv-"),
        ("Bob's PC\n2", "Bob-s PC-2"),
        ("Universität", "Universität"),
        ("\x1b[31m", "-[31m"),
        ("  ", "machine"),
    ],
)
def test_examples(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=300))
def test_any_name_becomes_a_safe_one(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= MAX_BASE_BYTES
    assert not set(safe) & UNWANTED and safe.isprintable() and safe == safe.strip()
    assert safe_name(safe) == safe
