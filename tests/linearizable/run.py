"""Checks that a server is linearizable and loses no increment.

Run by `make linearizable`; `--seconds 600` records for longer.
"""

import argparse
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from linearizable.record import ROUND_S, Load, count, record
from support.server import REPO, Server, short_base

CHECKER = REPO / "build/tools/linearizable"


def main() -> int:
    """Prints the results.

    Returns 1 if a history is not linearizable or an increment was lost.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40, help="how long to record")
    parser.add_argument(
        "--increment-seconds", type=float, default=15, help="how long to increment"
    )
    parser.add_argument("--processes", type=int, default=4, help="client processes")
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        help="clients in each process, with one connection",
    )
    parser.add_argument(
        "--projects", type=int, default=2, help="projects in use at the same time"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    args = parser.parse_args()
    # The histories are kept, so that a rejected one can be examined.
    results = REPO / "build/linearizable"
    results.mkdir(parents=True, exist_ok=True)
    print(f"seed {args.seed}, histories in {results}", flush=True)

    with short_base() as base, Server(base, "--log-calls", "off") as server:

        def load(seconds: float) -> Load:
            return Load(
                str(server.socket),
                seconds,
                args.processes,
                args.threads,
                args.projects,
                args.seed,
            )

        print(
            f"recording for {args.seconds:g} s, {args.projects} new projects"
            f" every {ROUND_S:g} s",
            flush=True,
        )
        files = record(load(args.seconds), results)
        counted, found, attempts = count(load(args.increment_seconds), results)
    print(
        f"{counted} increments in {attempts} attempts: {counted - found} lost",
        flush=True,
    )
    checked = subprocess.run([CHECKER, "-report", results, *files])
    return 0 if checked.returncode == 0 and counted == found > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
