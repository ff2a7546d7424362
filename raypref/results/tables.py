"""The comparison table of a sweep: a frame of numbers, and its cells as text."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

from raypref.results.collect import Collection
from raypref.results.labels import metric_label, rows_of, symbol, value_text
from raypref.results.render import Cells
from raypref.results.summaries import comparisons, margin_of, settings, summary
from raypref.results.verdicts import LEVEL

HEADLINE = ("generated_hr@1", "exact_hr@1")
SHOWN = (
    *("generated_hr@1", "valid_ratio", "exact_hr@1", "exact_ndcg@5"),
    *("constrained_hr@1", "constrained_outside", "catalog_hr@10", "catalog_ndcg@5"),
)


def headline_metric(collection: Collection) -> str:
    """HR@1 by generation, as the papers report it; by exact ranking where nothing was generated."""
    return next((metric for metric in HEADLINE if collection.has(metric, collection.reported)), HEADLINE[0])


@functools.lru_cache(maxsize=4)
def comparison_table(collection: Collection, metrics: tuple[str, ...] = SHOWN) -> pd.DataFrame:
    """A row a setting, SFT first.

    Columns: setting, the swept keys, default, sft, seeds; for each metric `<metric>` (mean), `<metric>_low` and `_high`
    (95 % over seeds; over users where there is one model) and `<metric>_over`; `difference` of the headline metric to
    the default setting with its `p_holm`, `significant`, `verdict` and `test`; `best` (significantly better than each
    other setting, after Holm's correction); `seconds` a trial.
    """
    headline, split = headline_metric(collection), collection.reported
    frame: pd.DataFrame | None = None
    for metric in (metric for metric in metrics if collection.has(metric, split)):
        found = summary(collection, metric, split)
        one = found["seeds"] < 2
        part = found[["setting"]].assign(
            **{  # type: ignore[arg-type]
                metric: found["mean"],
                f"{metric}_low": found["low"].where(~one, found["low_users"]),
                f"{metric}_high": found["high"].where(~one, found["high_users"]),
                f"{metric}_over": np.where(one, "users", "seeds"),
            }
        )
        described = found[["setting", *collection.parameters, "default", "sft", "seeds"]]
        part = described.merge(part, on="setting")
        frame = (
            part if frame is None else frame.merge(part[["setting", *part.columns[len(described.columns) :]]], "outer")
        )
    if frame is None:
        return pd.DataFrame(columns=["setting", *collection.parameters, "default", "sft", "seeds"])
    order = ["SFT", *(setting.text for setting in settings(collection))]
    frame = frame.set_index("setting").reindex([text for text in order if text in set(frame["setting"])]).reset_index()
    compared = _to_default(collection, headline, split)
    frame = frame.merge(compared, on="setting", how="left")
    frame["significant"] = frame["significant"].eq(True)
    frame["best"] = frame["setting"] == _beats_all(collection, headline, split)
    return frame.merge(_seconds(collection), on="setting", how="left")


def _to_default(collection: Collection, metric: str, split: str) -> pd.DataFrame:
    columns = ["setting", "difference", "p_holm", "significant", "verdict", "test"]
    default = next((setting for setting in settings(collection) if setting.default), None)
    return (
        pd.DataFrame(columns=columns) if default is None else comparisons(collection, metric, split, default)[columns]
    )


def _beats_all(collection: Collection, metric: str, split: str) -> str | None:
    """The setting that is significantly better than each other one, if there is one."""
    found = summary(collection, metric, split)
    found = found[~found["sft"]]
    if len(found) < 2:
        return None
    top = str(found.sort_values("mean")["setting"].iloc[-1])
    reference = next(setting for setting in settings(collection) if setting.text == top)
    others = comparisons(collection, metric, split, reference)
    return top if len(others) and (others["significant"] & (others["difference"] < 0)).all() else None


def _seconds(collection: Collection) -> pd.DataFrame:
    """Mean time a trial took, those that ran in this sweep."""
    taken = dict(zip(collection.trials["trial"], collection.trials["seconds"]))
    found = [(s.text, pd.Series([taken[trial] for trial in s.ids], dtype=float).mean()) for s in settings(collection)]
    return pd.DataFrame(found, columns=["setting", "seconds"])


def sweep_cells(collection: Collection) -> Cells:
    """The comparison table as text, under the sweep's question."""
    table = comparison_table(collection)
    metrics = [metric for metric in SHOWN if metric in table]
    header = [symbol(key, collection.sweep) for key in collection.parameters]
    header += ["seeds", *(metric_label(m) for m in metrics), "vs default", "s/trial"]
    rows = []
    for row in rows_of(table):
        values = ["SFT", *[""] * (len(collection.parameters) - 1)] if row["sft"] else []
        values = values or [value_text(row[key]) for key in collection.parameters]
        values.append("-" if row["sft"] else str(row["seeds"]))
        values += [_interval(row, metric) for metric in metrics]
        values += [_difference(row), value_text(round(row["seconds"], 1)) if row["seconds"] == row["seconds"] else "-"]
        rows.append([(text, bool(row["best"])) for text in values])
    question = str(collection.sweep.get("question", ""))
    return Cells(question, header, rows, footnotes(collection, table), names=len(collection.parameters))


def _interval(row: dict[str, Any], metric: str) -> str:
    mean, low, high = row[metric], row[f"{metric}_low"], row[f"{metric}_high"]
    if mean != mean:
        return "-"
    text = f"{mean:.3f}" if low != low else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
    return text + ("ᵘ" if row[f"{metric}_over"] == "users" and low == low else "")


def _difference(row: dict[str, Any]) -> str:
    if row["default"]:
        return "default"
    if row["sft"] or pd.isna(row["difference"]):
        return "-"
    return f"{row['difference']:+.3f} {row['verdict']}"


def footnotes(collection: Collection, table: pd.DataFrame) -> list[str]:
    """What the marks of a table mean; only those that it uses."""
    users = any((table[c] == "users").any() for c in table if str(c).endswith("_over"))
    one = "; ᵘ over users (bootstrap; binomial where all or none are right), as there is one model" if users else ""
    notes = [f"Split: {collection.reported}. Intervals: 95 % over seeds (Student's t){one}."]
    notes += domain_notes(collection)
    if "test" in table and table["test"].notna().any():
        tests = ", ".join(sorted(set(table["test"].dropna()) - {"none"}))
        notes.append(
            f"vs default: difference of {metric_label(headline_metric(collection))}, and what can be said of "
            "it: better or worse, it is not 0; equivalent, it is less than "
            f"{margin_of(collection):g} either way; undecided, neither is sure, and more seeds or users would tell. "
            "The chance that any row says the first wrongly is at "
            f"most {LEVEL:.0%}, and so is that of the second (corrected by Holm and by Hochberg; {tests or 'no'} test)."
        )
        notes += decided_notes(collection)
    notes += generation_notes(collection)
    if "best" in table and table["best"].any():
        notes.append("Bold: better than each other setting, p < 0.05 after Holm's correction.")
    left = collection.trials[~collection.trials["status"].isin(["done", "superseded"])]["status"].value_counts()
    if len(left):
        notes.append("Not in the table: " + ", ".join(f"{count} {status}" for status, count in left.items()) + ".")
    return notes


def decided_notes(collection: Collection) -> list[str]:
    """Of a sweep decided in rounds: what its verdicts were found by."""
    rounds = collection.sweep.get("decided")
    if not isinstance(rounds, dict) or len(rounds.get("splits", ())) < 2:
        return []
    splits = " and ".join(rounds["splits"])
    return [f"The verdicts were found in rounds of seeds (--decide) by the users' questions of {splits} together."]


def domain_notes(collection: Collection) -> list[str]:
    """Whose users the numbers are of, where the models were trained on another data set."""
    config = collection.sweep.get("config", {})
    if not config.get("transfer"):
        return []
    trained, asked = (config[key]["source"]["kind"] for key in ("data", "transfer"))
    return [f"Cross-domain: trained on {trained}; every number here is of held-out users of {asked}."]


def generation_notes(collection: Collection) -> list[str]:
    """How far HR@1 by generation lies from HR@1 by exact ranking, and why; nothing where one of the two is missing.

    They may differ only where the answer names no candidate, or names one that is not the likeliest whole title.
    """
    needed = ["generated_hr@1", "exact_hr@1", "valid_ratio", "agreement"]
    found = collection.metrics[collection.metrics["split"] == collection.reported]
    wide = found.pivot_table(index="trial", columns="metric", values="value")
    if not set(needed) <= set(wide.columns):
        return []
    wide = wide[needed].dropna()
    gap = wide["generated_hr@1"] - wide["exact_hr@1"]
    invalid, other = 1 - wide["valid_ratio"].mean(), (wide["valid_ratio"] - wide["agreement"]).mean()
    span = f"{gap.min():+.3f}" if len(gap) == 1 else f"{gap.min():+.3f} to {gap.max():+.3f} over {len(gap)} models"
    text = (
        f"HR@1 by generation less HR@1 by exact ranking: {span}; of the answers {invalid:.1%} name no candidate and "
        f"{other:.1%} name one that is not the likeliest as a whole."
    )
    return [text]
