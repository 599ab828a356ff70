"""Dropping the host's caches around big memory changes, when the site's kvmrc asks for it."""

from one_kvm_migrate.vmm.kvmrc import Settings
from one_kvm_migrate.vmm.log import Log

ON_START = "CLEANUP_MEMORY_ON_START"
ON_STOP = "CLEANUP_MEMORY_ON_STOP"
TIMEOUT_S = 60.0
COMPACT = ["sudo", "-n", "sysctl", "vm.drop_caches=3", "vm.compact_memory=1"]


def compact(settings: Settings, key: str, log: Log) -> None:
    """Compact the host's memory if *key* is ``yes``. A failure is only logged."""
    if not settings.flag(key):
        return
    import subprocess

    try:
        done = subprocess.run(
            COMPACT, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.info(f"{key}: {error}")
        return
    if done.returncode != 0:
        log.info(f"{key}: {done.stderr.decode('utf-8', 'replace')}")
