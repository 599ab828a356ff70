"""Names that oned takes and refuses."""

import pytest

from one_kvm_migrate.sim.objects.common import check_name


@pytest.mark.parametrize("name", ["a", "web server (old)", "ñ", "x" * 128, "é" * 64])
def test_good_names(name: str) -> None:
    assert check_name(name) == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "it cannot be empty"),
        ("x" * 129, "max length is 128 chars"),
        # oned counts bytes, whatever it calls them.
        ("é" * 65, "max length is 128 chars"),
        ("€" * 43, "max length is 128 chars"),
        ("a\nb", "it contains invalid characters: '\\n'"),
    ],
)
def test_bad_names(name: str, problem: str) -> None:
    assert check_name(name) == f"Invalid NAME, {problem}"
