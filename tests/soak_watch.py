"""Soak test of WatchWorkspaces: no change is lost without a signal.

    python tests/soak_watch.py --events 1000000

Writers change workspaces through the service and by hand, while the server is stopped
and killed again and again. Watchers of the Python client follow, some with a filter.
Whenever the writers rest, what each watcher believes must be what the server lists:
the same workspaces with the same etags. A change that was lost without a signal (an
expired token, after which the client lists again) would leave a difference.

Ends with exit code 1 at the first difference. Prints the number of events.
"""

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from mlops.workspace import WorkspaceError, WorkspaceManager

from support.server import Server

_PROJECTS = 200
_WRITERS = 4
_SETTLE_S = 120


class Follower(threading.Thread):
    """Follows one watch, and counts its events."""

    def __init__(self, address: str, projects: list[str]) -> None:
        super().__init__(daemon=True)
        self.projects = projects
        self.state: dict[str, str] = {}
        self.count = 0
        self._manager = WorkspaceManager(address=address)

    def run(self) -> None:
        for event in self._manager.watch(self.projects):
            self.count += 1
            if event.workspace is None:
                self.state.pop(event.project, None)
            else:
                self.state[event.project] = event.workspace.etag


class Writer(threading.Thread):
    """Changes workspaces until it is stopped; rests while `working` is not set."""

    def __init__(self, base: Path, address: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._base, self._chance = base, random.Random(seed)
        self._manager = WorkspaceManager(address=address)
        self.working = threading.Event()
        self.resting = threading.Event()
        self.changes = 0

    def run(self) -> None:
        while True:
            if not self.working.is_set():
                self.resting.set()
                self.working.wait()
                self.resting.clear()
            with contextlib.suppress(WorkspaceError, OSError):
                self._change(f"p{self._chance.randrange(_PROJECTS)}")
                self.changes += 1

    def _change(self, project: str) -> None:
        match self._chance.randrange(100):
            case 0:
                self._manager.delete_workspace(project, force=True, permanent=True)
            case 1:
                shutil.rmtree(self._base / project)
            case 2:
                record = self._base / project / "workspace.yaml"
                draft = record.with_name(f"draft-{self.ident}")
                draft.write_text(record.read_text() + f"x{time.time_ns()}: 1\n")
                draft.rename(record)
            case n if n < 10:
                self._manager.get_or_create_workspace(project)
            case _:
                self._manager.update_workspace_metadata(
                    project, metadata={"n": self._chance.random()}
                )


def _listed(address: str) -> dict[str, str]:
    manager = WorkspaceManager(address=address)
    return {w.project_name: w.etag for w in manager.list_workspaces()}


def _settle(address: str, followers: list[Follower]) -> str:
    """Wait until all followers believe what the server lists; return a difference."""
    give_up = time.monotonic() + _SETTLE_S
    while True:
        problem = ""
        listed = _listed(address)
        for follower in followers:
            wanted = {
                project: etag
                for project, etag in listed.items()
                if not follower.projects or project in follower.projects
            }
            if follower.state != wanted:
                different = wanted.items() ^ follower.state.items()
                problem = f"a watch of {follower.projects or 'all'}: {different}"
        if not problem or time.monotonic() > give_up:
            return problem
        time.sleep(0.2)


def main() -> int:
    """Run the soak test and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--round-seconds", type=float, default=5)
    parser.add_argument("--watchers", type=int, default=8)
    parser.add_argument("--parent", default="/dev/shm")
    args = parser.parse_args()
    # Otherwise the server would outlive this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin, chance, restarts, kills = time.monotonic(), random.Random(1), 0, 0
    with tempfile.TemporaryDirectory(prefix="soak-", dir=args.parent) as directory:
        base = Path(directory) / "base"
        with Server(base) as server:
            address = server.address
            for n in range(_PROJECTS):
                WorkspaceManager(address=address).create_workspace(f"p{n}")
        # The server looks few projects up, and searches for many.
        many = [f"p{n}" for n in range(0, _PROJECTS, 10)]
        filters = [[], [], [], many, [], [], [], many[:5]]
        followers = [
            Follower(address, filters[n % len(filters)]) for n in range(args.watchers)
        ]
        writers = [Writer(base, address, seed) for seed in range(_WRITERS)]
        started = False
        while sum(follower.count for follower in followers) < args.events:
            with Server(base) as server:
                if not started:
                    for thread in (*followers, *writers):
                        thread.start()
                    started = True
                for writer in writers:
                    writer.working.set()
                time.sleep(args.round_seconds)
                if chance.random() < 0.5:
                    # While writers are working.
                    kills += 1
                    server.kill()
                else:
                    restarts += 1
            with Server(base):
                for writer in writers:
                    writer.working.clear()
                for writer in writers:
                    writer.resting.wait()
                if problem := _settle(address, followers):
                    print(f"LOST after {restarts + kills} restarts: {problem}")
                    return 1
            events = sum(follower.count for follower in followers)
            changes = sum(writer.changes for writer in writers)
            print(
                f"{events:,} events of {changes:,} changes to {len(followers)} "
                f"watchers, {restarts} stops, {kills} kills, "
                f"{time.monotonic() - begin:.0f} s: nothing lost",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
