"""Builds the values that cases send and matches the values that they expect.

README.md describes the variables, generators and matchers.
"""

import base64
import re
from collections.abc import Callable
from typing import Any

ABSENT = object()


class Mismatch(AssertionError):
    """Where and how an actual value differs from the expected one."""


def build(value: Any, variables: dict[str, Any]) -> Any:
    """Returns `value` with variables filled in and generators expanded."""
    match value:
        case str():
            return _fill(value, variables)
        case list():
            return [build(item, variables) for item in value]
        case {"$repeat": [text, count], **rest} if not rest:
            return build(text, variables) * count
        case {"$base64": text, **rest} if not rest:
            return base64.b64encode(build(text, variables).encode()).decode()
        case {"$nest": depth, **rest} if not rest:
            return {} if depth == 1 else {"a": build({"$nest": depth - 1}, variables)}
        case dict():
            return {
                _fill(key, variables): build(item, variables)
                for key, item in value.items()
            }
    return value


def check(
    expected: Any, actual: Any, variables: dict[str, Any], where: str = ""
) -> None:
    """Raises Mismatch unless `actual` matches `expected`.

    `actual` is ABSENT for a missing field, and `where` is its path for messages. A
    `$save` matcher stores the value in `variables`.
    """
    match expected:
        case {"$repeat": _} | {"$nest": _} | {"$base64": _}:
            check(build(expected, variables), actual, variables, where)
        case {"$absent": True}:
            _require(actual is ABSENT, where, "should be absent", actual)
        case {"$any": True}:
            _require(actual is not ABSENT, where, "is missing", actual)
        case {"$save": str(name)}:
            _require(actual is not ABSENT, where, "is missing", actual)
            variables[name] = actual
        case {"$regex": pattern}:
            found = isinstance(actual, str) and re.search(
                _fill(pattern, variables, re.escape), actual
            )
            _require(bool(found), where, f"should match {pattern!r}", actual)
        case {"$min": least}:
            _require(
                actual is not ABSENT and float(actual) >= least,
                where,
                f"should be at least {least}",
                actual,
            )
        case {"$not": other}:
            _require(
                not _matches(other, actual, variables),
                where,
                f"should not be {other!r}",
                actual,
            )
        case {"$unordered": list(items)}:
            _check_unordered(
                items, [] if actual is ABSENT else actual, variables, where
            )
        case {"$exactly": dict(items)}:
            actual = {} if actual is ABSENT and not items else actual
            _require(isinstance(actual, dict), where, "should be a map", actual)
            _require(
                set(actual) == set(items),
                where,
                f"should have just the keys {sorted(items)}",
                actual,
            )
            check(items, actual, variables, where)
        case dict():
            _require(isinstance(actual, dict), where, "should be a map", actual)
            for key, item in expected.items():
                key = _fill(key, variables)
                check(
                    item,
                    actual.get(key, ABSENT),
                    variables,
                    f"{where}.{key}" if where else key,
                )
        case list():
            actual = [] if actual is ABSENT else actual
            _require(isinstance(actual, list), where, "should be a list", actual)
            _require(
                len(actual) == len(expected),
                where,
                f"should have {len(expected)} elements",
                actual,
            )
            for i, (item, other) in enumerate(zip(expected, actual, strict=True)):
                check(item, other, variables, f"{where}[{i}]")
        case _:
            value = build(expected, variables)
            _require(_equal(value, actual), where, f"should be {value!r}", actual)


def _check_unordered(
    expected: list[Any], actual: list[Any], variables: dict[str, Any], where: str
) -> None:
    _require(
        len(actual) == len(expected),
        where,
        f"should have {len(expected)} elements",
        actual,
    )
    # Each actual element may match only one expected element.
    rest = list(actual)
    for item in expected:
        found = next(
            (i for i, other in enumerate(rest) if _matches(item, other, variables)),
            None,
        )
        _require(found is not None, where, f"should have {item!r}", rest)
        check(item, rest.pop(found), variables, where)


def _matches(expected: Any, actual: Any, variables: dict[str, Any]) -> bool:
    try:
        # A copy, so that an attempt that fails saves no variables.
        check(expected, actual, dict(variables))
    except Mismatch:
        return False
    return True


def _equal(expected: Any, actual: Any) -> bool:
    # protojson omits fields that have their default value.
    if actual is ABSENT:
        return expected is False or (expected == 0 and not isinstance(expected, str))
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    # protojson writes 64-bit integers as strings.
    if isinstance(expected, int) and isinstance(actual, str):
        return str(expected) == actual
    return bool(expected == actual)


def _fill(
    text: str, variables: dict[str, Any], quote: Callable[[str], str] = str
) -> Any:
    # A text that is just a variable keeps the type of its value.
    if (whole := re.fullmatch(r"\$\{(\w+)\}", text)) and quote is str:
        return variables[whole[1]]
    return re.sub(r"\$\{(\w+)\}", lambda match: quote(str(variables[match[1]])), text)


def _require(condition: bool, where: str, problem: str, actual: Any) -> None:
    if not condition:
        shown = "nothing" if actual is ABSENT else repr(actual)[:2000]
        raise Mismatch(f"{where or 'the answer'} {problem}, but is {shown}")
