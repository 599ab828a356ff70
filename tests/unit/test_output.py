"""Tables for people, and the same data for programs."""

import csv
import io
import json

import pytest
import yaml
from lxml import etree

from one_kvm_migrate.cli.output import printable, render, render_csv, show

DATA = [{"name": "a\x1b[31m", "disks": [1, 2], "none": None, "ok": True}]


def test_machine_formats_carry_the_data() -> None:
    assert json.loads(render(DATA, "json", root="X")) == DATA
    assert yaml.safe_load(render(DATA, "yaml", root="X")) == DATA
    root = etree.fromstring(render(DATA, "xml", root="X"))
    assert [item.text for item in root.findall("ITEM/DISKS")] == ["1", "2"]
    assert root.findtext("ITEM/OK") == "true"
    assert "\x1b" not in (root.findtext("ITEM/NAME") or "")


def test_csv() -> None:
    rows = list(csv.reader(io.StringIO(render_csv([{"a": 'x,"y"', "b": None}], ["a", "b"]))))
    assert rows == [["a", "b"], ['x,"y"', ""]]


def test_a_name_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(DATA, DATA, ["name", "ok"], "table", root="X")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a\N{REPLACEMENT CHARACTER}[31m" in out and "yes" in out
    assert printable("a\u202eb\x07") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
