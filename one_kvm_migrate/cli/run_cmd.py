"""``one-kvm-migrate run SOURCE… --datastore D [--network N]``."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``run``."""
    from one_kvm_migrate.cli.connect import add_connect_options
    from one_kvm_migrate.cli.output import add_format_options
    from one_kvm_migrate.cli.run_options import add_run_options

    add_run_options(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_connect_options(parser)
    add_format_options(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, carry out, print. The exit status is that of the first refusal or failure."""
    from one_kvm_migrate.cli.connect import open_client, open_journal
    from one_kvm_migrate.cli.plan_cmd import report_refusals
    from one_kvm_migrate.cli.run_options import request
    from one_kvm_migrate.cli.watching import print_outcome, watched_run
    from one_kvm_migrate.pipeline.outcome import refused as refused_outcome
    from one_kvm_migrate.pipeline.planner import make_plan

    wanted = request(args)
    with open_client(args) as client, open_journal(args) as journal:
        plan = make_plan(client, wanted)
        refused = report_refusals(plan)
        if not plan.movable:
            if args.format != "table":
                print_outcome(refused_outcome(plan), args.format)
            return refused
        return watched_run(client, journal, args, lambda runner: runner.start(plan)) or refused
