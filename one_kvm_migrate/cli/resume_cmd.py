"""``one-kvm-migrate resume RUN``."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``resume``."""
    add_run_options(parser)
    parser.add_argument(
        "--libvirt-uri", metavar="URI", help="libvirt of the hosts for the proof, as for run"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what all commands on a journalled run have."""
    from one_kvm_migrate.cli.connect import add_connect_options
    from one_kvm_migrate.cli.output import add_format_options

    parser.add_argument("run_id", metavar="RUN", help="run id, as printed by run and runs")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_connect_options(parser)
    add_format_options(parser)


def run(args: argparse.Namespace) -> int:
    """Go on with the run; steps already done are not done again."""
    from one_kvm_migrate.cli.connect import open_client, open_journal
    from one_kvm_migrate.cli.watching import watched_run
    from one_kvm_migrate.pipeline.runner import Runner

    def work(runner: Runner) -> str:
        runner.resume(args.run_id, libvirt_uri=args.libvirt_uri)
        return str(args.run_id)

    with open_journal(args) as journal:
        journal.run(args.run_id)
        with open_client(args) as client:
            return watched_run(client, journal, args, work)
