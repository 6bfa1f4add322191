"""The parts of `make crash` that need no disk.

They decide which crash states exist and what may be found in each.
"""

import random
import struct
from pathlib import Path

from crash import disk, workload
from crash.disk import Record
from crash.run import Cut, cuts_of, lost_at, marks_before
from crash.workload import Client, State

_W, _F = Record("W", 0, b"x"), Record("F", 0, b"")


def test_a_cut_lies_between_two_flushes() -> None:
    assert cuts_of([_W, _F, _F, _W, _W]) == [
        Cut(1, 0, "none"),
        Cut(1, 0, "half"),
        Cut(1, 0, "all"),
        Cut(2, 2, "none"),
        Cut(5, 3, "none"),
        Cut(5, 3, "half"),
        Cut(5, 3, "all"),
    ]


def test_what_was_not_flushed_may_be_lost() -> None:
    records = [_W, _F, *(Record("W", i, b"x") for i in range(100))]
    assert lost_at(Cut(102, 2, "none"), records, random.Random(1)) == []
    assert lost_at(Cut(102, 2, "all"), records, random.Random(1)) == records[2:]
    half = lost_at(Cut(102, 2, "half"), records, random.Random(1))
    assert 20 < len(half) < 80 and [record.offset for record in half] == sorted(
        record.offset for record in half
    )


def test_the_log_is_read_and_replayed(tmp_path: Path) -> None:
    log, image = tmp_path / "log", tmp_path / "image"
    header = struct.Struct("=cQQ")
    log.write_bytes(
        header.pack(b"W", 2, 3)
        + b"abc"
        + header.pack(b"F", 0, 0)
        + header.pack(b"M", 0, 9)
        + b"end 0 12x"
    )
    records = disk.read_log(log)
    assert records == [
        Record("W", 2, b"abc"),
        Record("F", 0, b""),
        Record("M", 0, b"end 0 12x"),
    ]
    image.write_bytes(b"." * 6)
    disk.write_records(image, records)
    assert image.read_bytes() == b"..abc."


def test_what_may_be_found_follows_from_the_marks() -> None:
    new, changed = State("a"), State("b")
    client = Client(0, random.Random(1), [[State(), new], [new, changed]])
    records = [
        Record("M", 0, text.encode())
        for text in ("begin 0 0", "end 0 0", "begin 0 1", "begin 1 0", "end 0 1")
    ]
    assert [client.may_be(marks_before(records, end)) for end in range(6)] == [
        [State()],
        [State(), new],
        [new],
        [new, changed],
        [new, changed],
        [changed],
    ]


def test_a_file_has_one_name_once_its_move_is_acknowledged() -> None:
    state = State("a", frozenset({("models/a/f0", "x")}))
    client = Client(0, random.Random(3))
    move = next(
        change
        for _ in range(100)
        if (change := client._choose(state, "0.1")).rpc == "MoveArtifact"
    )
    [(path, text)] = move.steps[-1].files
    assert (path, text) == (move.request["destination_path"], "x")
    assert {name for name, _ in move.steps[0].files} == {"models/a/f0", path}


def test_every_change_of_a_workload_is_possible() -> None:
    class Player:
        def call(self, rpc: str, request: object) -> object:
            return type("Outcome", (), {"error": None})()

    marks: list[str] = []
    client = Client(2, random.Random(5))
    client.run(Player(), 200, marks.append)  # type: ignore[arg-type]
    assert marks[:2] == ["begin 2 0", "end 2 0"] and len(marks) == 400
    assert client.may_be(marks) == client.states[-1][-1:]
    assert (
        max(len(state.trash) for states in client.states for state in states)
        == workload._MAX_TRASH
    )
