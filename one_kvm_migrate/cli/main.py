"""Entry point of ``one-kvm-migrate``: finds the command, runs it, turns errors into words.

Each command is a module with ``configure(parser)`` and ``run(args) -> int``; only the one
that was asked for is imported.
"""

import argparse
import importlib
import io
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress

from one_kvm_migrate import __version__
from one_kvm_migrate.cli.output import let_listeners_go, printable
from one_kvm_migrate.errors import Cancelled, OkmError
from one_kvm_migrate.tools import interrupts

PROGRAM = "one-kvm-migrate"
EPILOG = """\
examples:
  one-kvm-migrate inspect web.vbox
  one-kvm-migrate plan web.vbox --datastore default --network lab
  one-kvm-migrate run web.vbox --datastore default --network lab

exit status: 0 done, 2 usage, 3 configuration, 4 something is not installed, 10-14 source,
20-22 conversion, 30-35 OpenNebula, 50-52 proof, 60-62 journal, 70 tool, 71 deadline,
130 stopped by a signal; README.md has them one by one.
"""

COMMANDS = {
    "inspect": ("inspect_cmd", "show what a VirtualBox machine, OVA, OVF or disk is"),
    "plan": ("plan_cmd", "show what a run would do, with sizes and an estimate"),
    "run": ("run_cmd", "migrate machines into OpenNebula"),
    "resume": ("resume_cmd", "go on with a run that stopped"),
    "rollback": ("rollback_cmd", "undo everything a run made"),
    "runs": ("runs_cmd", "list runs and their steps"),
    "convert": ("convert_cmd", "convert one disk to compressed qcow2"),
    "sim": ("sim_cmd", "start the embedded OpenNebula on loopback"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* and return the exit status (see errors.py)."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # File names need not be text; what can't be written becomes an escape JSON knows too.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = _run(words)
    let_listeners_go()
    return status


def _run(words: Sequence[str]) -> int:
    try:
        args = _parser(words).parse_args(words)
        _setup_logging(args.verbose)
        interrupts.install()
        status: int = args.run(args)
        return status
    except (OkmError, Cancelled) as exc:
        return fail(exc)
    except BrokenPipeError:
        # A table went to a reader that left; whatever does more than print has its own answer.
        let_listeners_go()
        return 0
    except Exception as exc:
        return _internal_error(exc)


def fail(exc: OkmError | Cancelled) -> int:
    """Print *exc* as one line on stderr and return its exit status."""
    with suppress(BrokenPipeError):
        print(f"{PROGRAM}: error: {printable(exc.sentence())}", file=sys.stderr)
    return exc.exit_code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Move guests of an OpenNebula cloud from VirtualBox to KVM.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in words if not word.startswith("-")), None)
    for name, (module_name, help_text) in COMMANDS.items():
        sentence = help_text[0].upper() + help_text[1:] + "."
        sub = subparsers.add_parser(name, help=help_text, description=sentence)
        sub.add_argument("-v", "--verbose", action="count", default=0, help="say more; twice: all")
        if name == wanted:
            module = importlib.import_module(f"one_kvm_migrate.cli.{module_name}")
            module.configure(sub)
            sub.set_defaults(run=module.run)
    return parser


def _setup_logging(verbose: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s: %(message)s")
    # requests' debug lines name every URL; useful only to those who ask for everything.
    logging.getLogger("urllib3").setLevel(max(level, logging.INFO))


def _internal_error(exc: Exception) -> int:
    handle, path = tempfile.mkstemp(prefix=f"{PROGRAM}-", suffix=".log")
    with os.fdopen(handle, "w") as log:
        traceback.print_exception(exc, file=log)
    print(
        f"{PROGRAM}: error: internal error ({type(exc).__name__}); details are in {path}. "
        "Please report it with that file.",
        file=sys.stderr,
    )
    return 1
