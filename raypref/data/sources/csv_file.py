"""Interactions of one's own: a CSV or Parquet file, columns by name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config.base import unknown_key
from raypref.config.data import CsvSource
from raypref.data.canonical import canonical
from raypref.data.schema import Log
from raypref.data.sources.files import find, rejected_table, tolerate
from raypref.errors import UserError


def read_csv(config: CsvSource) -> Log:
    """Read the file; rows without user, item or title, or with a rating outside 1..5, are refused and counted."""
    file = find(config.path, "your interactions")
    frame = _read(file)
    wanted = {"user": config.user, "item": config.item, "title": config.title}
    wanted |= {key: name for key in ("rating", "timestamp") if (name := getattr(config, key)) is not None}
    for key, name in wanted.items():
        if name not in frame.columns:
            raise UserError(
                unknown_key(name, set(frame.columns)).replace("unknown key", "there is no column"),
                where=str(file),
                mend=f"name the column by --data.source.{key}" + (", or None" if key in ("rating", "timestamp") else ""),
            )
    raw = frame[list(wanted.values())].set_axis(list(wanted), axis=1)
    reason = pd.Series("", index=raw.index)
    if "rating" in raw:
        raw["rating"] = pd.to_numeric(raw["rating"], errors="coerce")
        reason[~raw["rating"].between(1, 5)] = "rating is not in 1..5"
    if "timestamp" in raw:
        raw["timestamp"] = _seconds(raw["timestamp"])
        reason[~(raw["timestamp"] >= 0)] = "time is neither Unix seconds nor a date"
    for key in ("user", "item", "title"):
        text = raw[key].astype("str").str.strip()
        reason[raw[key].isna() | (text == "")] = f"{key} is empty"
        raw[key] = text
    bad = reason != ""
    texts = frame[bad].astype("str").agg(",".join, axis=1).tolist() if bad.any() else []
    rejected = rejected_table(file, [i + 2 for i in raw.index[bad]], reason[bad].tolist(), texts)
    tolerate(rejected, len(raw), config.max_bad_lines, file)
    raw = raw[~bad]
    n = len(raw)
    interactions = pa.table(
        {
            "user_id": pa.array(raw["user"], pa.string()),
            "item_id": pa.array(raw["item"], pa.string()),
            "rating": pa.array(raw["rating"], pa.float32()) if "rating" in raw else pa.nulls(n, pa.float32()),
            "count": pa.nulls(n, pa.float32()),
            "timestamp": pa.array(raw["timestamp"].astype("int64")) if "timestamp" in raw else pa.nulls(n, pa.int64()),
        }
    )
    titles = raw.drop_duplicates("item")
    items = pa.table(
        {
            "item_id": pa.array(titles["item"], pa.string()),
            "title": pa.array(titles["title"], pa.string()),
            "metadata": pa.nulls(len(titles), pa.string()),
        }
    )
    return canonical(file.stem, config.domain, interactions, items, rejected)


def _read(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pandas()
    try:
        return pd.read_csv(file, dtype="str", keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"not a readable CSV file: {error}", where=str(file), mend="save it as UTF-8 CSV with a header")


def _seconds(column: pd.Series) -> pd.Series:
    """Unix seconds of a column of numbers or dates; NaN where neither."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().any():
        return numbers
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    return (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
