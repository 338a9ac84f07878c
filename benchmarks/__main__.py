"""The command: ``python -m benchmarks [--quick] [--only SECTION ...]``, ``--steps``, or ``--profile KIND``."""

import argparse
import os
import platform
import resource
import shutil
import sys

from benchmarks.environments import cache_folder
from benchmarks.plan import Plan
from benchmarks.processes import cores
from benchmarks.profiling import KINDS, profile
from benchmarks.report import Row, table
from benchmarks.sections import HTTP_PEERS, SECTIONS
from benchmarks.servers import Fleet


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the peers of the budget only, short runs")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--seconds", type=float, help="length of one run (5; quick: 2)")
    parser.add_argument("--runs", type=int, help="how often each is measured (3)")
    parser.add_argument(
        "--profile", choices=KINDS, help="instead: where the daemon's time goes under this load"
    )
    parser.add_argument("--steps", action="store_true", help="instead: what one call costs, step by step")
    options = parser.parse_args()
    if options.steps:
        from benchmarks.steps import steps

        steps()
        return 0

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = (hard if hard != resource.RLIM_INFINITY else max(soft, 4096)) - 200
    fleet = Fleet(cache_folder())
    if options.profile:
        profile(fleet, options.profile, options.seconds or 5.0)
        return 0
    plan = Plan(
        fleet=fleet,
        seconds=options.seconds or (2.0 if options.quick else 5.0),
        runs=options.runs or 3,
        idle=min(400 if options.quick else 800, room),
        peers=HTTP_PEERS[:2] if options.quick else HTTP_PEERS,
        say=lambda line: print(line, flush=True),
    )
    print(f"{platform.machine()}, {cores()} cores, load {os.getloadavg()[0]:.1f}, Linux {platform.release()}")
    if cores() < 2:
        print("one core only: server and load share it, so absolute figures say little")
    if shutil.which("wrk") is None:
        print("no wrk: the driver that stands in for it tops out at about 20 000 requests a second")
    for line in fleet.what():
        print(line)
    for name in options.only:
        print(f"{name}:", flush=True)
        SECTIONS[name](plan)
    print()
    print(table(Row._fields, [tuple(row) for row in plan.rows]))
    missed = [row for row in plan.rows if row.verdict == "MISSED"]
    print(f"\n{len(plan.rows) - len(missed)} of {len(plan.rows)} reach 'at least'")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
