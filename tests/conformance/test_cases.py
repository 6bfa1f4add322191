"""Plays each case of cases/*.json with each player, against a fresh server."""

import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from conformance import files
from conformance.contract import check_error
from conformance.matching import ABSENT, Mismatch, build, check
from conformance.players import PLAYERS, Outcome, Player, Request, messages_of
from support.server import Server, short_base

_EVENTUALLY_S = 10


def _cases() -> Iterator[Any]:
    for file in sorted((Path(__file__).parent / "cases").glob("*.json")):
        for case in json.loads(file.read_text()):
            names, values = (
                list(case.get("for_each", {})),
                list(case.get("for_each", {}).values()),
            )
            for combination in product(*values):
                suffix = "".join(f" {value!r:.40}" for value in combination)
                variables = dict(zip(names, combination, strict=True))
                yield pytest.param(
                    case, variables, id=f"{file.stem}: {case['name']}{suffix}"
                )


@pytest.fixture
def base() -> Iterator[Path]:
    with short_base() as path:
        path.mkdir()
        yield path


@pytest.mark.parametrize("player", PLAYERS, ids=lambda player: player.__name__.lower())
@pytest.mark.parametrize(("case", "variables"), list(_cases()))
def test_case(
    case: dict[str, Any], variables: dict[str, Any], player: type[Player], base: Path
) -> None:
    variables = {key: build(value, {}) for key, value in variables.items()} | {
        "base": str(base)
    }
    for step in case.get("before", []):
        files.do(base, step, variables)
    # Each server runs until the next step that restarts it.
    steps = case["steps"]
    while steps:
        with Server(base) as server, player(server) as calls:
            steps = _play_until_restart(steps, server.base, calls, variables)
        if steps and "move_base" in steps[0]:
            base = base.rename(base.with_name("moved"))
            variables["base"] = str(base)
        steps = steps[1:]


def _play_until_restart(
    steps: list[dict[str, Any]], base: Path, player: Player, variables: dict[str, Any]
) -> list[dict[str, Any]]:
    """Plays `steps` up to a restart; returns the restart and the steps after it."""
    for i, step in enumerate(steps):
        if "restart" in step or "move_base" in step:
            return steps[i:]
        try:
            _call(step, player, variables) if "rpc" in step else files.do(
                base, step, variables
            )
        except Mismatch as mismatch:
            raise Mismatch(
                f"step {i + 1}, {json.dumps(step)[:300]}: {mismatch}"
            ) from None
    return []


def _call(step: dict[str, Any], player: Player, variables: dict[str, Any]) -> None:
    rpc = build(step["rpc"], variables)
    request = build(step.get("requests", step.get("request", {})), variables)
    deadline = time.monotonic() + _EVENTUALLY_S
    while True:
        outcome = player.call(rpc, request)
        try:
            return _check_outcome(step, request, outcome, variables)
        except Mismatch:
            if not step.get("eventually") or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _check_outcome(
    step: dict[str, Any], request: Request, outcome: Outcome, variables: dict[str, Any]
) -> None:
    if outcome.error is not None:
        check_error(outcome.error, next(iter(messages_of(request)), {}))
        info = outcome.error.infos[0]
        actual = {
            "code": outcome.error.code,
            "message": outcome.error.message,
            "reason": info.reason,
        }
        actual["metadata"] = dict(info.metadata)
        return check(
            {"error": step.get("error", {"$absent": True})},
            {"error": actual},
            variables,
        )
    check(step.get("error", {"$absent": True}), ABSENT, variables, "error")
    expected = step.get("responses", [step.get("response", {})])
    check(expected, outcome.responses, variables, "responses")
