"""What oned's ``vmm_exec_kvm.conf`` of 7.5.80 gives when nobody else does (contract 3.1)."""

HYPERV_OPTIONS = "<relaxed state='on'/><vapic state='on'/><spinlocks state='on' retries='4096'/>"
HYPERV_TIMERS = (
    "<timer name='hypervclock' present='yes'/>"
    "<timer name='rtc' tickpolicy='catchup'/>"
    "<timer name='pit' tickpolicy='delay'/>"
    "<timer name='hpet' present='no'/>"
)
SPICE_OPTIONS = (
    "<video><model type='vga' heads='1'/></video>"
    "<sound model='ich6'/>"
    "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>"
)
OVMF_UEFIS = (
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/OVMF/OVMF_CODE.secboot.fd",
)

SINGLE: dict[str, str] = {
    "MEMORY_SLOTS": "16",
    "Q35_ROOT_PORTS": "16",
    "EMULATOR": "/usr/bin/qemu-kvm-one",
    "HYPERV_OPTIONS": HYPERV_OPTIONS,
    "HYPERV_TIMERS": HYPERV_TIMERS,
    "SPICE_OPTIONS": SPICE_OPTIONS,
}

VECTOR: dict[tuple[str, str], str] = {
    ("OS", "ARCH"): "x86_64",
    ("OS", "MACHINE"): "q35",
    ("OS", "SD_DISK_BUS"): "scsi",
    ("FEATURES", "PAE"): "no",
    ("FEATURES", "ACPI"): "yes",
    ("FEATURES", "APIC"): "no",
    ("FEATURES", "HYPERV"): "no",
    ("FEATURES", "GUEST_AGENT"): "yes",
    ("FEATURES", "VIRTIO_SCSI_QUEUES"): "auto",
    ("FEATURES", "IOTHREADS"): "0",
    ("DISK", "DRIVER"): "raw",
    ("DISK", "CACHE"): "none",
    ("DISK", "DISCARD"): "unmap",
    ("NIC", "MODEL"): "virtio",
    ("NIC", "VIRTIO_QUEUES"): "auto",
}
