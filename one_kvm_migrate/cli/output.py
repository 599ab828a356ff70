"""How commands print: a table for people, or -j/-x/-y/--csv for programs (as onevm does)."""

import argparse
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from one_kvm_migrate.units import human_bytes

Row = Mapping[str, Any]
WIDEST = 10_000


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add the mutually exclusive -j/--json, -x/--xml, -y/--yaml, --csv; dest is ``format``."""
    group = parser.add_mutually_exclusive_group()
    for flags, name in (
        (("-j", "--json"), "json"),
        (("-x", "--xml"), "xml"),
        (("-y", "--yaml"), "yaml"),
        (("--csv",), "csv"),
    ):
        group.add_argument(
            *flags, dest="format", action="store_const", const=name, help=f"print {name.upper()}"
        )
    parser.set_defaults(format="table")


def render(data: Any, fmt: str, *, root: str) -> str:
    """*data* (plain JSON types) as text in *fmt* json, xml or yaml. *root* names the XML root."""
    if fmt == "json":
        return _escaped(json.dumps(data, indent=2, ensure_ascii=False)) + "\n"
    if fmt == "yaml":
        import yaml

        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return _xml(data, root)


def render_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """*rows* as CSV with a header line: raw numbers, nothing for None, lists by blanks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([printable(_cell(row.get(name))) for name in columns] for row in rows)
    return buffer.getvalue()


def show(data: Any, rows: Sequence[Row], columns: Sequence[str], fmt: str, *, root: str) -> None:
    """Print to stdout: *data* whole for json/xml/yaml, *rows* by *columns* for csv and tables.

    Rows hold raw values under names with their units (``size_bytes``); tables make them
    readable.
    """
    if fmt in ("json", "xml", "yaml"):
        sys.stdout.write(render(data, fmt, root=root))
    elif fmt == "csv":
        sys.stdout.write(render_csv(rows, columns))
    else:
        print_table(rows, columns)


def print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """A plain table on stdout, or a block of lines per row where the terminal is too narrow.

    Nothing in a cell is taken for markup or terminal escapes.
    """
    cells = [[printable(_readable(name, row.get(name))) for name in columns] for row in rows]
    headers = [_header(name) for name in columns]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    text = _drawn(headers, cells)
    if width is not None and max(map(len, text.splitlines()), default=0) > width:
        text = _blocks(headers, cells)
    sys.stdout.write(text)


def _drawn(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    # Into text first: rich ends the process by itself when the reader has gone away.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = io.StringIO()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    Console(file=drawn, width=WIDEST, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def _blocks(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    indent = max(map(len, headers)) + 2
    blocks = [
        "".join(f"{header:{indent}}{cell}\n" for header, cell in zip(headers, row, strict=True))
        for row in cells
    ]
    return "\n" + "\n".join(blocks) + "\n"


def _header(name: str) -> str:
    for suffix in ("_bytes", "_mib", "_s", "_id"):
        name = name.removesuffix(suffix)
    return name.upper().replace("_", " ")


def _readable(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_bytes"):
        return human_bytes(value)
    if name.endswith("_mib"):
        return f"{value} MiB"
    if name.endswith("_s"):
        return f"{value:.0f} s"
    return _cell(value)


def let_listeners_go() -> None:
    """Send stdout or stderr nowhere if its reader (head, less) has gone: no error of ours.

    What cannot be flushed would otherwise spoil the exit status when the program ends.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def printable(text: str) -> str:
    """*text* without control characters: no name can write terminal escapes or a second line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def printable_lines(text: str) -> str:
    """*text* of several lines, each of them printable."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _escaped(text: str) -> str:
    """JSON *text* with what terminals might obey (C1 controls, bidi marks) as escapes."""
    plain = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    return "".join(plain)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(_cell(item) for item in value)
    return str(value)


def _xml(data: Any, root: str) -> str:
    from lxml import etree

    element = etree.Element(root)
    _fill(element, data)
    text: str = etree.tostring(element, pretty_print=True, encoding="unicode")
    return text


def _fill(element: Any, data: Any) -> None:
    from lxml import etree

    if isinstance(data, Mapping):
        for key, value in data.items():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                _fill(etree.SubElement(element, str(key).upper()), item)
    elif isinstance(data, (list, tuple)):
        for item in data:
            _fill(etree.SubElement(element, "ITEM"), item)
    elif data is not None:
        text = str(data).lower() if isinstance(data, bool) else str(data)
        element.text = printable_lines(text)
