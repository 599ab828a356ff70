"""The shapes of answers and the checks before a handler runs."""

import xmlrpc.client
from pathlib import Path
from typing import Any

import pytest

from one_kvm_migrate.sim import rpc
from one_kvm_migrate.sim.call import Call


def handler(call: Call, oid: int, name: str, on: bool = False) -> int:
    return oid


def with_list(call: Call, ids: list[int] | None = None) -> int:
    return len(ids or [])


def with_bits(call: Call, oid: int, *bits: int) -> int:
    return oid


@pytest.mark.parametrize("number", [264, 299])
def test_encoded_answers_are_the_recorded_bytes(data: Path, number: int) -> None:
    path = next((data / "recordings" / "xmlrpc").glob(f"{number}-*.response.xml"))
    recorded = path.read_bytes()
    answer: Any = xmlrpc.client.loads(recorded)[0][0]
    assert rpc.encode(answer).split() == recorded.split()


def test_markup_and_line_ends_survive() -> None:
    text = "<A>&amp; \r\n ñ ]]></A>"
    answer: Any = xmlrpc.client.loads(rpc.encode([True, text, 0]))[0][0]
    assert answer == [True, text, 0]


def test_faults_are_faults() -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(rpc.encode_fault(rpc.Fault(-506, "Method 'x<' not defined")))
    assert caught.value.faultCode == -506
    assert caught.value.faultString == "Method 'x<' not defined"


def test_parameters_that_fit() -> None:
    assert rpc.check_types(handler, [1, "a"]) == [1, "a"]
    assert rpc.check_types(handler, [1, "a", True, "too much"]) == [1, "a", True]
    assert rpc.check_types(with_list, [[1, 2]]) == [[1, 2]]
    assert rpc.check_types(with_list, []) == []
    assert rpc.check_types(with_bits, [1, 0, 1]) == [1, 0, 1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "Not enough parameters"),
        ([1], "Not enough parameters"),
        (["1", "a"], "an integer"),
        ([2**31, "a"], "an integer"),
        ([True, "a"], "an integer"),
        ([1, 2], "a string"),
        ([1, "a", 1], "a boolean"),
    ],
)
def test_parameters_that_do_not_fit(given: list[Any], text: str) -> None:
    with pytest.raises(rpc.Fault, match=text):
        rpc.check_types(handler, given)


def test_wrong_types_in_lists_and_tails() -> None:
    with pytest.raises(rpc.Fault, match="an array"):
        rpc.check_types(with_list, [1])
    with pytest.raises(rpc.Fault, match="an integer"):
        rpc.check_types(with_bits, [1, 0, "x"])


def test_a_method_is_defined_once() -> None:
    assert rpc.merged({"a": handler}, {"b": handler}) == {"a": handler, "b": handler}
    with pytest.raises(ValueError, match="defined twice"):
        rpc.merged({"a": handler}, {"a": handler})
