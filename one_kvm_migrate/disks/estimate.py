"""How big and how long, before a byte is copied: measured on a sample of the disk itself."""

import os
import time
import zlib
from dataclasses import dataclass

from one_kvm_migrate.disks.origin import holding_file, source_bytes
from one_kvm_migrate.errors import SourceError
from one_kvm_migrate.model import SourceDisk
from one_kvm_migrate.units import KiB

CLUSTER = 64 * KiB
SAMPLES = 48
# qemu-img compresses with zlib's default level on 64 KiB clusters, as is done here.
LEVEL = -1
# Header, refcounts and tables of the smallest qcow2 with data in it.
OVERHEAD = 5 * CLUSTER
# The image is written, compared with the source and hashed: about this much on top.
VERIFY_FACTOR = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Expected size of the image (bytes) and duration of the conversion (seconds)."""

    file_bytes: int
    seconds: float


def estimate(disk: SourceDisk) -> Estimate:
    """Estimate for *disk* from up to SAMPLES clusters spread over its file.

    Samples are taken from the container as it lies there; all-zero ones are left out.
    Raises SourceError when the file cannot be read.
    """
    size = source_bytes(disk)
    read, packed, seconds = _sample(disk)
    if not read:
        return Estimate(file_bytes=OVERHEAD, seconds=1.0)
    cores = os.cpu_count() or 1
    bytes_per_s = read / max(seconds, 1e-6) * cores
    return Estimate(
        file_bytes=OVERHEAD + int(size * min(1.0, packed / read)),
        seconds=round(1.0 + size / bytes_per_s * VERIFY_FACTOR, 1),
    )


def _sample(disk: SourceDisk) -> tuple[int, int, float]:
    """(bytes read, bytes compressed, seconds spent) over the sample."""
    path = holding_file(disk)
    start = disk.archive.offset_bytes if disk.archive else 0
    length = disk.archive.size_bytes if disk.archive else os.stat(path).st_size
    zero = bytes(CLUSTER)
    read = packed = 0
    began = time.monotonic()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror}", hint="Check its mode.") from exc
    try:
        for offset in _data_offsets(descriptor, start, length):
            chunk = os.pread(descriptor, CLUSTER, offset)
            if chunk and chunk != zero[: len(chunk)]:
                read += len(chunk)
                packed += len(zlib.compress(chunk, LEVEL))
    finally:
        os.close(descriptor)
    return read, packed, time.monotonic() - began


def _data_offsets(descriptor: int, start: int, length: int) -> list[int]:
    """Evenly spread offsets, each moved on to the next data of a sparse file."""
    stride = max(CLUSTER, length // SAMPLES)
    offsets = []
    for offset in range(start, start + length, stride):
        try:
            offsets.append(os.lseek(descriptor, offset, os.SEEK_DATA))
        except OSError:
            break
    return sorted(set(offsets))
