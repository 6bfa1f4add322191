"""Converts columns of any type to the three types that Evidently compares.

These are numbers, categories and text.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import (
    infer_dtype,
    is_bool_dtype,
    is_complex_dtype,
    is_numeric_dtype,
    is_string_dtype,
)

NUMBER, BOOL, CATEGORY, TEXT = "numbers", "booleans", "categories", "text"
EMPTY = "no value"
OTHER = "other"  # Of a type that is not compared.

# The kind for each result of pandas.api.types.infer_dtype() on a column of objects.
_KINDS = {
    "string": TEXT,
    "boolean": BOOL,
    "integer": NUMBER,
    "floating": NUMBER,
    "mixed-integer-float": NUMBER,
    "decimal": NUMBER,
    "interval": CATEGORY,
    "empty": EMPTY,
}
_SCALARS = (str, bool, int, float, Decimal, np.bool_, np.integer, np.floating)


@dataclass(frozen=True)
class Column:
    """A column converted to a plain type.

    Numbers are int64 or float64. Other values are text or None, in a column of objects.
    """

    values: pd.Series
    kind: str
    dtype: str  # The original dtype.


def plain(series: pd.Series) -> Column:
    """Return the column in a plain type; without values if its type is not compared."""
    try:
        return _plain(series)
    except Exception:
        # A number beyond all floats, or an error in another library's type. One column
        # must not fail the whole table.
        return Column(_nothing(series), OTHER, str(series.dtype))


def _plain(series: pd.Series) -> Column:
    dtype = str(series.dtype)
    kind, values = _read(series)
    if kind == NUMBER:
        numbers = _numbers(values)
        return Column(numbers, NUMBER if np.isfinite(numbers).any() else EMPTY, dtype)
    if kind in (OTHER, EMPTY):
        return Column(_nothing(series), EMPTY if series.isna().all() else OTHER, dtype)
    return Column(_texts(values), kind if values.notna().any() else EMPTY, dtype)


def _nothing(series: pd.Series) -> pd.Series:
    return pd.Series([None] * len(series), series.index, object)


def _read(series: pd.Series) -> tuple[str, pd.Series]:
    """Return the kind of a column, and its values without special encodings.

    These are sparse and dictionary encodings.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        series = series.sparse.to_dense()
    if isinstance(dtype, pd.CategoricalDtype) or _is_arrow_dictionary(dtype):
        return CATEGORY, series.astype(object)
    if is_complex_dtype(series):
        return OTHER, series
    if series.dtype == object:
        return _kind_of_objects(series), series
    # Check for booleans first, because pandas also counts them as numeric.
    if is_bool_dtype(series):
        return BOOL, series.astype(object)
    if is_numeric_dtype(series):
        return NUMBER, series
    if is_string_dtype(series):
        return TEXT, series.astype(object)
    if isinstance(dtype, pd.IntervalDtype):
        return CATEGORY, series.astype(object)
    return OTHER, series


def _is_arrow_dictionary(dtype: Any) -> bool:
    return isinstance(dtype, pd.ArrowDtype) and pa.types.is_dictionary(
        dtype.pyarrow_dtype
    )


def _kind_of_objects(series: pd.Series) -> str:
    inferred = infer_dtype(series, skipna=True)
    if inferred.startswith("mixed") and inferred not in _KINDS:
        return (
            CATEGORY
            if all(isinstance(value, _SCALARS) for value in series[series.notna()])
            else OTHER
        )
    return _KINDS.get(inferred, OTHER)


def _numbers(values: pd.Series) -> pd.Series:
    """Return the values as int64 if all fit, else as float64."""
    numbers = pd.Series(
        values.to_numpy(dtype="float64", na_value=np.nan), index=values.index
    )
    whole = values.dtype.kind in "iu" and values.notna().all()
    limits = np.iinfo(np.int64)
    if (
        whole
        and len(values)
        and limits.min <= int(values.min())
        and int(values.max()) <= limits.max
    ):
        return values.astype("int64")
    return numbers


def _texts(values: pd.Series) -> pd.Series:
    """Return the values as text, with None for missing values."""
    # The fast path, for columns that hold only text.
    with suppress(pa.ArrowException, ValueError, TypeError):
        return pd.Series(
            pa.Array.from_pandas(values, type=pa.string()).to_pandas(),
            values.index,
            object,
        )
    missing = values.isna()
    texts = [
        None if gone else as_text(value)
        for value, gone in zip(values, missing, strict=True)
    ]
    return pd.Series(texts, values.index, object)


def as_text(value: Any) -> str:
    """Return a value as a category's name; 1, 1.0 and "1" have the same name."""
    if (
        isinstance(value, float | np.floating)
        and math.isfinite(value)
        and value == int(value)
    ):
        value = int(value)
    return unicode_text(value)


def unicode_text(value: Any) -> str:
    """Return a value as text without surrogates.

    Parquet and reports cannot hold surrogates.
    """
    return str(value).encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Pair:
    """A column of the reference and the same column now, made comparable.

    `problem` says why they cannot be compared, if so.
    """

    before: pd.Series
    now: pd.Series
    kind: str
    problem: str | None = None


def pair(before: Column, now: Column) -> Pair:
    """Make two columns comparable. `kind` is EMPTY if only the reference has values."""
    unlike = Pair(
        before.values,
        now.values,
        OTHER,
        f"holds {now.kind}, and {before.kind} in the reference",
    )
    if before.kind == EMPTY:
        return Pair(before.values, now.values, OTHER, "has no value in the reference")
    for column in (before, now):
        if column.kind == OTHER:
            return Pair(
                before.values,
                now.values,
                OTHER,
                f"is of a type that is not compared, {column.dtype}",
            )
    # A column that lost all its values is compared, because that is drift.
    if now.kind == EMPTY or before.kind == now.kind:
        return Pair(before.values, now.values, now.kind)
    # Values of different kinds may still be comparable.
    kinds = {before.kind, now.kind}
    if kinds == {NUMBER, BOOL}:
        flags_before, flags_now = _as_booleans(before), _as_booleans(now)
        return (
            unlike
            if flags_before is None or flags_now is None
            else Pair(flags_before, flags_now, BOOL)
        )
    if kinds == {NUMBER, TEXT}:
        return unlike
    # Compare as numbers only if every present value converts.
    if kinds == {NUMBER, CATEGORY} and before.kind == NUMBER:
        numbers = pd.to_numeric(now.values, errors="coerce")
        return (
            unlike
            if (numbers.isna() & now.values.notna()).any()
            else Pair(before.values, numbers.astype("float64"), NUMBER)
        )
    return Pair(_texts(before.values), _texts(now.values), before.kind)


def _as_booleans(column: Column) -> pd.Series | None:
    """Return the column as booleans; None if it has numbers other than 0 and 1."""
    if column.kind == BOOL:
        return column.values
    known = column.values.isin([0, 1]) | column.values.isna()
    return (
        column.values.map({0: "False", 1: "True"}).astype(object)
        if known.all()
        else None
    )


def presence(series: pd.Series) -> pd.Series:
    """Return for each row, as a category, whether it has a value."""
    there = np.isfinite(series) if series.dtype != object else series.notna()
    return there.map({True: "value", False: "missing"}).astype(object)
