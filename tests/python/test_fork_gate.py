"""The fork gate: what a fork waits for."""

import threading
import time

from mlops._rpc.fork_gate import ForkGate


class Lasting:
    """A long-running call, as the gate sees it."""

    def __init__(self) -> None:
        self.runs = True

    def pause(self) -> None:
        self.runs = False


def test_a_lasting_call_that_is_begun_while_a_fork_waits_is_paused_too() -> None:
    gate, inside, calls = ForkGate(), threading.Event(), [Lasting(), Lasting()]
    gate.watch(calls[0])

    def begin() -> None:
        with gate:
            inside.set()
            while calls[0].runs:
                time.sleep(0.001)
            gate.watch(calls[1])

    thread = threading.Thread(target=begin)
    thread.start()
    inside.wait()
    gate.before_fork()
    assert not calls[0].runs and not calls[1].runs
    gate.after_fork_in_parent()
    thread.join()
