"""Finds out what a source is, by its content first and its suffix second, and reads it."""

from collections.abc import Iterable
from pathlib import Path

from one_kvm_migrate.disks.probe import CONTAINER_SUFFIXES, RAW_SUFFIXES
from one_kvm_migrate.errors import OkmError, SourceUnsupported
from one_kvm_migrate.model import SourceVm
from one_kvm_migrate.sources.disk import inspect_disk
from one_kvm_migrate.sources.ovf import inspect_ova, inspect_ovf
from one_kvm_migrate.sources.vbox import inspect_vbox
from one_kvm_migrate.tools.archive import looks_like_tar, refuse_compressed
from one_kvm_migrate.tools.files import Window
from one_kvm_migrate.tools.xmlsafe import local_name, parse_file

XML_SUFFIXES = frozenset({".vbox", ".vbox-prev", ".ovf", ".xml"})
_DISK_SUFFIXES = (RAW_SUFFIXES | CONTAINER_SUFFIXES) - {".ova"}


def inspect(path: Path) -> list[SourceVm]:
    """The machines in *path*: a ``.vbox`` file, an OVF, an OVA or a bare disk.

    Only reads. Raises SourceError and its kinds when the source as a whole is unusable; what
    speaks against one machine is in its ``refusals``.
    """
    suffix = path.suffix.lower()
    with Window(path) as window:
        head = window.peek(0, 512)
        is_tar = looks_like_tar(window)
        if suffix not in _DISK_SUFFIXES:
            refuse_compressed(window)
    if suffix == ".vmx":
        raise SourceUnsupported(
            f"{path} is a VMware machine file", hint="Export the machine as OVF or OVA."
        )
    if suffix == ".ova" or (is_tar and suffix not in _DISK_SUFFIXES):
        return inspect_ova(path)
    if suffix in XML_SUFFIXES or _is_xml(head):
        return _inspect_xml(path)
    return [inspect_disk(path)]


def _is_xml(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    utf_16 = (b"\xff\xfe<\0", b"\xfe\xff\0<")
    return text.startswith((b"<?xml", b"<VirtualBox", b"<Envelope", *utf_16))


def _inspect_xml(path: Path) -> list[SourceVm]:
    kind = local_name(parse_file(path))
    if kind == "VirtualBox":
        return [inspect_vbox(path)]
    if kind == "Envelope":
        return inspect_ovf(path)
    raise SourceUnsupported(
        f"{path} is XML, but describes no machine: it begins with {kind!r}",
        hint="Give a .vbox, .ovf, .ova or disk file.",
    )


def inspect_all(paths: Iterable[Path]) -> list[tuple[Path, list[SourceVm] | OkmError]]:
    """The machines of each of *paths*, or the OkmError that makes it unusable."""
    results: list[tuple[Path, list[SourceVm] | OkmError]] = []
    for path in paths:
        try:
            results.append((path, inspect(path)))
        except OkmError as exc:
            results.append((path, exc))
    return results
