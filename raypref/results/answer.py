"""The answer to a sweep's question, in a sentence."""

from __future__ import annotations

from typing import Any

import pandas as pd

from raypref.errors import UserError
from raypref.results.collect import Collection
from raypref.results.labels import metric_label, rows_of
from raypref.results.settings import Setting, comparisons, settings, summary
from raypref.results.tables import headline_metric


def best_setting(collection: Collection, metric: str | None = None) -> tuple[Setting, str] | None:
    """The setting with the best mean on validation, and the split it was chosen by; None where none is finished.

    Of equals the default is taken, else the first. Where the trials have no validation rows, the test split decides,
    and a claim about the chosen one's score is then too kind: the caller must say so.
    """
    metric = metric or headline_metric(collection)
    split = "validation" if collection.has(metric, "validation") else "test"
    found = summary(collection, metric, split)
    found = found[~found["sft"]].sort_values(["mean", "default"], ascending=False, kind="stable")
    if found.empty:
        return None
    chosen = found["setting"].iloc[0]
    return next(setting for setting in settings(collection) if setting.text == chosen), split


def answer(collection: Collection, parameter: str | None = None, metric: str | None = None) -> str:
    """Which setting is best (chosen on validation), what it scores on test, and which differences are significant.

    Args:
        parameter: a swept key; needed by no sweep over one key, and in others only checked.
        metric: by default HR@1 by generation, else by exact ranking.
    """
    if parameter is not None and parameter not in collection.parameters:
        known = ", ".join(collection.parameters)
        raise UserError(f"the sweep does not vary {parameter}", where="parameter", mend=f"choose one of: {known}")
    metric = metric or headline_metric(collection)
    best = best_setting(collection, metric)
    if best is None:
        return _nothing(collection)
    setting, chosen_by = best
    split = "test" if collection.has(metric, "test") else "validation"
    scores = {row["setting"]: row for row in rows_of(summary(collection, metric, split))}
    if setting.text not in scores:
        return _nothing(collection)
    parts = [f"{setting.text} gives {metric_label(metric)} {_score(scores[setting.text])}"]
    if "SFT" in scores:
        parts[0] += f", the SFT model {scores['SFT']['mean']:.3f}"
    compared = comparisons(collection, metric, split, setting)
    if len(compared):
        parts.append(_differences(compared))
    return "; ".join(parts) + ". " + _small_print(collection, chosen_by, split)


def _score(row: dict[str, Any]) -> str:
    if row["seeds"] > 1:
        return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['mean']:.3f} [{row['low_users']:.3f}, {row['high_users']:.3f}] over users"


def _differences(compared: pd.DataFrame) -> str:
    """`significantly better than λ=0, worse than λ=3; differences to λ=1 and λ=2 are not significant`."""
    tested = compared[compared["p_holm"].notna()]
    if not len(tested):
        return "no difference could be tested"
    clear, worse = tested["significant"], tested["difference"] < 0  # difference: the other setting minus this one
    beaten, lost = tested[clear & worse]["setting"].tolist(), tested[clear & ~worse]["setting"].tolist()
    even = tested[~clear]["setting"].tolist()
    found = [f"{word} than {_listed(names)}" for word, names in (("better", beaten), ("worse", lost)) if names]
    said = ["significantly " + ", ".join(found)] if found else []
    if even:
        said.append(f"{'the difference' if len(even) == 1 else 'differences'} to {_listed(even)} "
                    f"{'is' if len(even) == 1 else 'are'} not significant")  # fmt: skip
    return "; ".join(said)


def _listed(names: list[str], most: int = 6) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _small_print(collection: Collection, chosen_by: str, split: str) -> str:
    if chosen_by == split:
        text = f"(Chosen and reported on {split}, as there is no other split: too kind to the chosen one."
    else:
        text = f"(Chosen on {chosen_by}, reported on {split}."
    left = collection.trials[~collection.trials["status"].isin(["done", "superseded"])]["status"].value_counts()
    if len(left):
        text += " Without " + ", ".join(f"{count} {status}" for status, count in left.items()) + " trials."
    return text + ")"


def _nothing(collection: Collection) -> str:
    counts = collection.trials[collection.trials["trial"] != "sft"]["status"].value_counts()
    if not len(counts):
        return "No answer yet: no trial has begun."
    return "No answer yet: no trial has finished (" + ", ".join(f"{n} {status}" for status, n in counts.items()) + ")."
