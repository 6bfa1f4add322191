"""Tests of the matchers: each must accept some values and reject others."""

from typing import Any

import pytest

from conformance.matching import ABSENT, Mismatch, build, check

MATCHES = [
    ({"a": 1}, {"a": 1, "b": 2}),
    ({"a": 1}, {"a": "1"}),
    ({"a": 0, "b": False, "c": []}, {}),
    ({"a": {"$absent": True}}, {}),
    ({"a": {"$any": True}}, {"a": None}),
    ({"$exactly": {"a": 1.0}}, {"a": 1}),
    ({"$exactly": {}}, ABSENT),
    ({"$unordered": [1, {"a": 1}]}, [{"a": 1}, 1]),
    ({"$regex": "^${name}$"}, "a.b"),
    ({"$min": 2}, "3"),
    ({"$not": "a"}, "b"),
    ({"$repeat": ["x", 3]}, "xxx"),
    ({"$nest": 2}, {"a": {}}),
    ("${name}", "a.b"),
]
DIFFERS = [
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {}),
    ({"a": 1}, {"a": True}),
    ({"a": ""}, {}),
    ({"a": 0}, {"a": 1}),
    ({"a": {}}, {}),
    ({"a": {"$absent": True}}, {"a": None}),
    ({"a": {"$any": True}}, {}),
    ({"a": {"$save": "x"}}, {}),
    ({"$exactly": {"a": 1}}, {"a": 1, "b": 2}),
    ({"$exactly": {}}, {"a": 1}),
    ({"$unordered": [1, 1]}, [1, 2]),
    ({"$unordered": [1]}, [1, 1]),
    ([1, 2], [2, 1]),
    ([1], [1, 1]),
    ([], [1]),
    ({"$regex": "^${name}$"}, "axb"),
    ({"$min": 2}, "1"),
    ({"$not": "a"}, "a"),
    ("1", 1),
    (None, ABSENT),
]


@pytest.mark.parametrize(("expected", "actual"), MATCHES)
def test_matches(expected: Any, actual: Any) -> None:
    check(expected, actual, {"name": "a.b"})


@pytest.mark.parametrize(("expected", "actual"), DIFFERS)
def test_differs(expected: Any, actual: Any) -> None:
    with pytest.raises(Mismatch):
        check(expected, actual, {"name": "a.b"})


def test_what_is_saved_is_filled_in() -> None:
    variables: dict[str, Any] = {}
    check({"a": [{"$save": "token"}]}, {"a": ["t"]}, variables)
    assert build({"${token}": "<${token}>"}, variables) == {"t": "<t>"}
