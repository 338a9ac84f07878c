"""The command: ``python -m tests.chaos [--seconds 600] [--seed 7] [--only kill reload …]``."""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.chaos.run import WORKERS, chaos

KINDS = ("kill", "stop", "freeze", "reload", "network", "bytes", "disk", "upstream", "hang")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long things are broken (30)")
    parser.add_argument("--seed", type=int, help="decides what is broken when; by default a new one")
    parser.add_argument("--only", nargs="+", choices=KINDS, help="break nothing else")
    parser.add_argument("--keep", type=Path, help="a new folder for what is left to look at")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:g} s, {WORKERS} workers", flush=True)

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="erlmcp-chaos-") as temporary:
            folder = options.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            tally = await chaos(reactor, folder, options.seconds, seed, options.only)
            if options.keep:
                (folder / "log").write_text(tally.log)
        print(tally.table())
        print(tally.summary())
        if tally.wrong:
            sys.exit(1)

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
