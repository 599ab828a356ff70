"""What arrives on stdin: XML over ssh, base64 when local; and what a resize asks for."""

import base64
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from one_kvm_migrate.errors import UsageError
from one_kvm_migrate.vmm import document, wanted
from one_kvm_migrate.vmm.shares import following
from one_kvm_migrate.vmm.vcpus import cpu_set


def test_xml_stays_as_it_is() -> None:
    assert document.plain(b" \n<a/>\n") == b" \n<a/>\n"


def test_base64_is_decoded(data: Path) -> None:
    text = (data / "recordings/driver_vmm_small/resize.02/stdin").read_bytes()
    assert document.plain(base64.b64encode(text) + b"\n") == text


@pytest.mark.parametrize("junk", [b"", b"hello", b"aGVsbG8=", b"\xff\xfe", b"YQ==="])
def test_neither_is_refused(junk: bytes) -> None:
    with pytest.raises(UsageError, match="neither XML nor base64"):
        document.plain(junk)


def test_broken_xml_is_named() -> None:
    with pytest.raises(UsageError, match=r"the deployment file is not well-formed XML: .*line 1"):
        document.parse(b"<a><title>x & y</title></a>", "the deployment file")


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        ("resize.01", (2, 768)),
        ("resize.02", (4, None)),
        ("resize.03", (2, 768)),
    ],
)
def test_recorded_requests(data: Path, recording: str, expected: tuple[int, int | None]) -> None:
    text = (data / f"recordings/driver_vmm_small/{recording}/stdin").read_bytes()
    request = wanted.read(document.parse(text, "recording"))
    assert (request.vcpus, request.memory_mib) == expected


def request(new: str, old: str, mode: str = "") -> wanted.Wanted:
    return wanted.read(
        ET.fromstring(
            f"<D><VM><TEMPLATE>{new}<MEMORY_RESIZE_MODE>{mode}</MEMORY_RESIZE_MODE>"
            f"<RESIZE>{old}</RESIZE></TEMPLATE></VM></D>"
        )
    )


def test_only_differences_are_requests() -> None:
    same = "<CPU>1</CPU><VCPU>2</VCPU><MEMORY>512</MEMORY>"
    assert request(same, same)[:3] == (None, None, None)


def test_a_machine_without_vcpu_asks_for_none() -> None:
    assert request("<VCPU/><MEMORY>512</MEMORY>", "<MEMORY>256</MEMORY>").vcpus is None


def test_the_mode_is_read_in_any_case() -> None:
    assert request("", "", "hotplug").by_hotplug
    assert not request("", "", "BALLOONING").by_hotplug


@pytest.mark.parametrize(
    ("new", "key"),
    [("<VCPU>two</VCPU>", "VCPU"), ("<MEMORY>0</MEMORY>", "MEMORY"), ("<CPU>-1</CPU>", "CPU")],
)
def test_impossible_values_are_named(new: str, key: str) -> None:
    with pytest.raises(UsageError, match=f"{key} is .*, but must be a"):
        request(new, "")


def test_cpu_lists_are_read() -> None:
    assert cpu_set("0-2,5") == {0, 1, 2, 5}
    assert cpu_set("0") == {0}
    assert cpu_set("") == set()


@pytest.mark.parametrize(
    ("now", "former", "cpu", "expected"),
    [
        (1024, 1.0, 2.0, 2048),
        (103, 0.1, 0.5, 512),
        (100, 1.0, 2.0, 200),
        (1, 0.01, 200.0, 10000),
        (777, 1.0, 2.0, None),
        (None, 1.0, 2.0, None),
        (1024, None, 2.0, None),
    ],
)
def test_shares_follow_the_rule_that_made_them(
    now: int | None, former: float | None, cpu: float, expected: int | None
) -> None:
    assert following(now, former, cpu) == expected
