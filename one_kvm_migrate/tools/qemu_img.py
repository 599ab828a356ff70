"""qemu-img as plain functions. Formats are always named, nothing is ever probed.

A source image is given as a *block node*: the nested dict that QMP's ``blockdev-add`` takes.
It is passed as a ``json:`` file name, which leaves qemu nothing to guess.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import SourceUnsupported, ToolFailed
from one_kvm_migrate.tools.run import run

Node = Mapping[str, Any]
Progress = Callable[[float], None]

_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What ``qemu-img check`` counted."""

    corruptions: int
    leaks: int
    errors: int


def file_name(node: Node) -> str:
    """*node* as a file name that qemu-img accepts wherever it takes one.

    Raises SourceUnsupported for a path that is not UTF-8: JSON cannot carry it.
    """
    text = json.dumps(node, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise SourceUnsupported(
            f"qemu cannot open a file whose name is not UTF-8: {text.encode('utf-8', 'replace')!r}",
            hint="Give it a plain name, for instance by a hard link.",
        ) from exc
    return "json:" + text


def virtual_size_bytes(node: Node, *, deadline: Deadline) -> int:
    """What the guest would see, by qemu's reading of the image."""
    return int(_json(["info", "--output=json", file_name(node)], deadline)["virtual-size"])


def measure_bytes(node: Node, *, deadline: Deadline) -> int:
    """Upper bound of an uncompressed qcow2 holding *node*'s allocated blocks."""
    return int(
        _json(["measure", "--output=json", "-O", "qcow2", file_name(node)], deadline)["required"]
    )


def convert(
    node: Node,
    target: Path,
    *,
    create_options: str,
    coroutines: int,
    deadline: Deadline,
    on_progress: Progress,
) -> None:
    """Write *node* to *target* as compressed qcow2, overwriting *target*.

    ``on_progress`` gets a fraction from 0 to 1. Out-of-order writes are allowed (-W): they
    let the compressor threads run in parallel. Raises ToolFailed, DeadlineExceeded.
    """
    argv = ["qemu-img", "convert", "-p", "-c", "-W", "-m", str(coroutines)]
    argv += ["-O", "qcow2", "-o", create_options, file_name(node), str(target)]
    run(argv, deadline=deadline, on_stdout=_percent(on_progress))


def check(path: Path, *, deadline: Deadline) -> CheckReport:
    """Consistency of the qcow2 file *path* (opened read-only).

    Corruptions and leaks are data, not exceptions; ToolFailed when it cannot be checked.
    """
    argv = ["qemu-img", "check", "--output=json", "-f", "qcow2", str(path)]
    outcome = run(argv, deadline=deadline, ok=(0, 2, 3))
    report = json.loads(outcome.stdout)
    return CheckReport(
        corruptions=int(report.get("corruptions", 0)),
        leaks=int(report.get("leaks", 0)),
        errors=int(report.get("check-errors", 0)),
    )


def same_content(one: Node, other: Node, *, deadline: Deadline, on_progress: Progress) -> bool:
    """True when both images hold the same bytes for the guest."""
    argv = ["qemu-img", "compare", "-p", file_name(one), file_name(other)]
    return run(argv, deadline=deadline, ok=(0, 1), on_stdout=_percent(on_progress)).rc == 0


def _percent(on_progress: Progress) -> Callable[[bytes], None]:
    """Reader of what ``-p`` prints, for both commands that have it."""

    def forward(chunk: bytes) -> None:
        found = _PERCENT.findall(chunk)
        if found:
            on_progress(float(found[-1]) / 100)

    return forward


def _json(arguments: list[str], deadline: Deadline) -> Any:
    argv = ["qemu-img", *arguments]
    outcome = run(argv, deadline=deadline)
    try:
        return json.loads(outcome.stdout)
    except ValueError as exc:
        raise ToolFailed(argv, outcome.rc, f"no JSON answer: {exc}") from exc
