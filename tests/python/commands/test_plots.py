"""Plots made of characters."""

import io
import math
import sys

import pytest
from mlops.commands import plots

BOTH = pytest.mark.parametrize("encoding", ["utf-8", "ascii"])


def _print_as(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)


@BOTH
def test_bars(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _print_as(encoding, monkeypatch)
    full = "█" if encoding == "utf-8" else "#"
    assert plots.bar(2.0, 2.0, 4) == full * 4
    assert plots.bar(1.0, 2.0, 4) == full * 2
    assert plots.bar(0.0, 2.0, 4) == ""
    assert plots.bar(3.0, 2.0, 4) == full * 4
    assert plots.bar(-5.0, -5.0, 4, lowest=-5.0) == full * 4
    for nothing in (None, math.nan, math.inf):
        assert plots.bar(nothing, 2.0, 4) == ""
    assert plots.bar(1e308, 1e308, 4, lowest=-1e308) == full * 4


@BOTH
def test_lines(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _print_as(encoding, monkeypatch)
    expected = "▁▅█ " if encoding == "utf-8" else "_=# "
    assert plots.line([0.0, 0.5, 1.0, math.nan]) == expected
    assert plots.line([]) == ""
