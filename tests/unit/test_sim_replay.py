"""The replay's comparison sees what differs and nothing else."""

import base64
from pathlib import Path

import pytest

from tests.replay import Paths, differences, load

PATHS = Paths(Path("/tmp/x/var"), Path("/tmp/x/images"))
HOST = "<HOST><ID>0</ID><STATE>2</STATE><TEMPLATE><A>1</A><B>2</B></TEMPLATE></HOST>"


@pytest.mark.parametrize(
    "ours",
    [
        HOST.replace("<ID>0", "<ID>1"),
        HOST.replace("<A>1</A>", ""),
        HOST.replace("<A>1</A><B>2</B>", "<B>2</B><A>1</A>"),
        HOST.replace("<A>1", "<A>1 "),
        HOST.replace("HOST>", "HOSTS>"),
        "not xml",
    ],
)
def test_differences_are_seen(ours: str) -> None:
    assert differences([True, HOST, 0], [True, ours, 0], PATHS)


@pytest.mark.parametrize(
    ("recorded", "ours"),
    [
        ([True, 1, 0], [True, 2, 0]),
        ([True, 1, 0], [True, "1", 0]),
        ([False, "x", 1024, 0, -1], [False, "x", 1024, 1, -1]),
        ([False, "x", 1024, 0, -1], [False, "x", 1024]),
        ([False, "x", 512, -1, -1], [False, "y", 512, -1, -1]),
        ([True, "<A><STIME>5</STIME></A>", 0], [True, "<A><STIME>0</STIME></A>", 0]),
    ],
)
def test_codes_ids_and_texts_count(recorded: list[object], ours: list[object]) -> None:
    assert differences(recorded, ours, PATHS)


@pytest.mark.parametrize(
    ("recorded", "ours"),
    [
        ("<A><STIME>5</STIME></A>", "<A><STIME>77</STIME></A>"),
        ("<A><B><![CDATA[x]]></B><C></C></A>", "<A><B>x</B><C/></A>"),
        (
            "<A>/var/lib/one//datastores/1/20d2a9f13aff8db4af6d1ade35bff183</A>",
            "<A>/tmp/x/var//datastores/1/00d2a9f13aff8db4af6d1ade35bff183</A>",
        ),
        (
            "cannot access '/var/tmp/images/none' (x)",
            "cannot access '/tmp/x/images/none' (x)",
        ),
    ],
)
def test_what_cannot_be_the_same_is_evened_out(recorded: str, ours: str) -> None:
    assert differences([True, recorded, 0], [True, ours, 0], PATHS) == []


def test_documents_inside_of_hook_logs_are_compared() -> None:
    def log(document: str) -> str:
        encoded = base64.b64encode(document.encode()).decode()
        record = (
            f"<HOOK_EXECUTION_RECORD><ARGUMENTS>x {encoded}</ARGUMENTS></HOOK_EXECUTION_RECORD>"
        )
        return f"<HOOKLOG>{record}</HOOKLOG>"

    same = log("<VM><ID>1</ID><P>/tmp/x/var/a</P></VM>")
    recorded = log("<VM><ID>1</ID><P>/var/lib/one/a</P></VM>")
    assert differences([True, recorded, 0], [True, same, 0], PATHS) == []
    other = log("<VM><ID>2</ID><P>/tmp/x/var/a</P></VM>")
    assert differences([True, recorded, 0], [True, other, 0], PATHS)


def test_all_188_calls_are_there(data: Path) -> None:
    calls = load(data / "recordings" / "xmlrpc")
    assert [call.number for call in calls] == list(range(248, 436))
