"""``one-kvm-migrate rollback RUN``."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rollback``."""
    from one_kvm_migrate.cli.resume_cmd import add_run_options

    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Undo exactly what the run made: VM, template, ranges, images, files."""
    from one_kvm_migrate.cli.connect import open_client, open_journal
    from one_kvm_migrate.cli.watching import watched_run
    from one_kvm_migrate.pipeline.runner import Runner

    def work(runner: Runner) -> str:
        runner.rollback(args.run_id)
        return str(args.run_id)

    with open_journal(args) as journal:
        journal.run(args.run_id)
        with open_client(args) as client:
            watched_run(client, journal, args, work)
    return 0
