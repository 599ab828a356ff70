"""Arguments that ``plan`` and ``run`` share: a plan is a run that does nothing."""

import argparse
from pathlib import Path

from one_kvm_migrate.opennebula.vmtemplate import TemplateOptions
from one_kvm_migrate.pipeline.plan import RunOptions
from one_kvm_migrate.pipeline.planner import Request


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add SOURCE… and everything that decides what is made of it."""
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE", help=".vbox, OVA, OVF or disk file")
    add("--datastore", "-d", required=True, metavar="D", help="image datastore (name or id)")
    add("--network", metavar="N", help="virtual network for the adapters (name or id)")
    add("--name", metavar="NAME", help="name in OpenNebula (one source only)")
    add(
        "--instantiate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start a VM of the new template and prove that it works",
    )
    add(
        "--prove",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take a screenshot over VNC and look for a sign of life",
    )
    add(
        "--persistent",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="persistent images: what the guest writes stays when the VM ends",
    )
    add("--host", metavar="H", help="host to start on (name or id; else the scheduler chooses)")
    add(
        "--listen",
        type=_address,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="VNC address (127.0.0.1)",
    )
    add("--new-mac", action="store_true", help="let OpenNebula give new MAC addresses")
    add("--vcpu-max", type=_positive, metavar="N", help="live-resize limit (twice the CPUs)")
    add("--memory-max", type=_positive, metavar="MIB", help="live-resize limit (twice the memory)")
    add(
        "--libvirt-uri",
        metavar="URI",
        help="libvirt of the hosts for the proof, {host} is replaced (qemu+ssh://{host}/system)",
    )
    add("--boot-timeout", type=_positive, default=300, metavar="S", help="seconds to boot (300)")


def request(args: argparse.Namespace) -> Request:
    """The Request that *args* stand for. Raises UsageError."""
    from one_kvm_migrate.errors import UsageError

    if args.name is not None and len(args.sources) > 1:
        raise UsageError("--name fits one source only", hint="Run the sources one by one.")
    return Request(
        sources=tuple(path.absolute() for path in args.sources),
        datastore=args.datastore,
        network=args.network,
        name=args.name,
        options=RunOptions(
            instantiate=args.instantiate,
            prove=args.prove,
            persistent=args.persistent,
            host=args.host,
            libvirt_uri=args.libvirt_uri,
            boot_timeout_s=float(args.boot_timeout),
            template=TemplateOptions(
                vnc_listen=args.listen,
                vcpu_max=args.vcpu_max,
                memory_max_mib=args.memory_max,
                keep_mac=not args.new_mac,
            ),
        ),
    )


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be positive")
    return value


def _address(text: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text} is not an IP address") from exc
