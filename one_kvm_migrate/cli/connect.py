"""Options every command that talks to OpenNebula has, and the session they lead to."""

import argparse
from getpass import getpass
from pathlib import Path

from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.credentials import find
from one_kvm_migrate.pipeline.journal import Journal, default_state_dir
from one_kvm_migrate.secret import Secret


def add_connect_options(parser: argparse.ArgumentParser) -> None:
    """Add --endpoint, --user, --password and --state-dir, with onevm's meaning."""
    parser.add_argument("--endpoint", metavar="URL", help="XML-RPC endpoint of OpenNebula")
    parser.add_argument("--user", metavar="NAME", help="OpenNebula user; asks for the password")
    parser.add_argument(
        "--password", metavar="PASSWORD", help="seen by others in the process list; ONE_AUTH is not"
    )
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="journal folder (else $OKM_STATE_DIR)"
    )


def open_client(args: argparse.Namespace) -> Client:
    """Session by the options, the environment and the files onevm reads."""
    password = None
    if args.user is not None:
        typed = args.password if args.password is not None else getpass("OpenNebula password: ")
        password = Secret(typed)
    return Client(find(user=args.user, password=password, endpoint=args.endpoint))


def open_journal(args: argparse.Namespace) -> Journal:
    """The journal in --state-dir or the default place."""
    return Journal(args.state_dir or default_state_dir())
