"""The guest's building material: what happens without a network, and that a cache needs none."""

from pathlib import Path

import pytest

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import EnvironmentMissing
from one_kvm_migrate.lab.packages import MODULES, gather
from tests.conftest import GUEST_CACHE


@pytest.fixture
def unreachable_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt with no package lists and a mirror where nobody listens."""
    folder = tmp_path / "apt"
    for part in ("etc/apt/preferences.d", "etc/apt/sources.list.d", "state/lists", "cache"):
        (folder / part).mkdir(parents=True)
    sources = folder / "etc" / "apt" / "sources.list"
    sources.write_text("deb [trusted=yes] http://127.0.0.1:1/debian bookworm main\n")
    config = folder / "apt.conf"
    config.write_text(
        f'Dir::Etc "{folder}/etc/apt"; Dir::State::lists "{folder}/state/lists";\n'
        f'Dir::Cache "{folder}/cache"; Acquire::Retries "0";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))


@pytest.mark.usefixtures("unreachable_mirror")
def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(EnvironmentMissing, match="cannot download qemu-guest-agent") as caught:
        gather(cache, deadline=Deadline(60))
    assert "Check the network" in caught.value.sentence()
    assert [path.name for path in cache.iterdir()] == [".lock"]


@pytest.mark.usefixtures("demo_guest", "unreachable_mirror")
def test_a_second_guest_needs_no_network() -> None:
    kit = gather(GUEST_CACHE, deadline=Deadline(10))
    assert kit.kernel.read_bytes()[0x202:0x206] == b"HdrS", "not a Linux kernel image"
    assert kit.release.endswith("-amd64")


@pytest.mark.usefixtures("demo_guest")
def test_every_module_comes_with_what_it_needs() -> None:
    kit = gather(GUEST_CACHE, deadline=Deadline(10))
    folder = kit.modules / kit.release
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    have = {Path(module).stem.replace("-", "_") for module in needs}
    assert have >= {name.replace("-", "_") for name in MODULES}
    for module, dependencies in needs.items():
        assert (folder / module).is_file()
        assert set(dependencies) <= set(needs)
