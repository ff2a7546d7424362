"""The answer to a sweep's question, in a sentence."""

from __future__ import annotations

from typing import Any

import pandas as pd

from raypref.errors import UserError
from raypref.results.collect import Collection
from raypref.results.curves import cost_table
from raypref.results.labels import metric_label, rows_of, setting_text
from raypref.results.multi_objective import joint_table, objectives
from raypref.results.protocol_order import orders
from raypref.results.summaries import Setting, comparisons, settings, summary
from raypref.results.tables import headline_metric

MOST_ON_FRONT = 4  # settings named in the answer; the figure and its table show them all


def best_setting(collection: Collection, metric: str | None = None) -> tuple[Setting, str] | None:
    """The setting with the best mean on validation, and the split it was chosen by; None where none is finished.

    Of equals the default is taken, else the first. Where the trials have no validation rows, the test split decides,
    and a claim about the chosen one's score is then too kind: the caller must say so.
    """
    metric = metric or headline_metric(collection)
    split = collection.choosing
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
    split = collection.reported
    scores = {row["setting"]: row for row in rows_of(summary(collection, metric, split))}
    if setting.text not in scores:
        return _nothing(collection)
    parts = [f"{setting.text} gives {metric_label(metric)} {_score(scores[setting.text])}"]
    for other in (name for name in _objectives(collection) if name != metric and collection.has(name, split)):
        found = {row["setting"]: row for row in rows_of(summary(collection, other, split))}
        parts[0] += f" and {metric_label(other)} {_score(found[setting.text])}" if setting.text in found else ""
    if "SFT" in scores:
        parts[0] += f", the SFT model {scores['SFT']['mean']:.3f}"
    compared = comparisons(collection, metric, split, setting)
    if len(compared):
        default = next((s.text for s in settings(collection) if s.default), None)
        parts.append(_differences(compared, default, brief=len(collection.parameters) > 1))
    said = [
        "; ".join(parts) + ".",
        *_front(collection),
        *_costs(collection),
        *(order.said() for order in orders(collection)[:1]),
        _small_print(collection, chosen_by, split),
    ]
    return " ".join(said)


def _score(row: dict[str, Any]) -> str:
    if row["seeds"] > 1:
        return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['mean']:.3f} [{row['low_users']:.3f}, {row['high_users']:.3f}] over users"


def _differences(compared: pd.DataFrame, default: str | None = None, brief: bool = False) -> str:
    """`significantly better than λ=0, worse than λ=3; differences to λ=1 and λ=2 are not significant`.

    `brief`: settings of several keys have long names, and many of them are counted instead.
    """
    tested = compared[compared["p_holm"].notna()]
    if not len(tested):
        return "no difference could be tested"

    def listed(names: list[str]) -> str:
        if brief and len(names) > 2:
            return f"{len(names)} other settings{', the default among them' if default in names else ''}"
        return _listed(names)

    clear, worse = tested["significant"], tested["difference"] < 0  # difference: the other setting minus this one
    beaten, lost = tested[clear & worse]["setting"].tolist(), tested[clear & ~worse]["setting"].tolist()
    even = tested[~clear]["setting"].tolist()
    found = [f"{word} than {listed(names)}" for word, names in (("better", beaten), ("worse", lost)) if names]
    said = ["significantly " + ", ".join(found)] if found else []
    if even:
        said.append(f"{'the difference' if len(even) == 1 else 'differences'} to {listed(even)} "
                    f"{'is' if len(even) == 1 else 'are'} not significant")  # fmt: skip
    return "; ".join(said)


def _listed(names: list[str], most: int = 6) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _objectives(collection: Collection) -> list[str]:
    """The metrics of a search for several of them that there are values of; none of any other sweep."""
    wanted = collection.sweep.get("metrics")
    return objectives(collection) if isinstance(wanted, list) and len(wanted) > 1 else []


def _front(collection: Collection) -> list[str]:
    """Of a search for several metrics: the settings that no other is better than in all of them."""
    metrics = _objectives(collection)
    if len(metrics) < 2:
        return []
    table = joint_table(collection)
    front = table[table["pareto"]].sort_values(metrics[0], ascending=False)
    named = [
        f"{row['setting']} ({', '.join(f'{metric_label(m)} {row[m]:.3f}' for m in metrics)})"
        for row in rows_of(front)[:MOST_ON_FRONT]
    ]
    more = f" and {len(front) - len(named)} more" if len(front) > len(named) else ""
    on = f"On {table['split'].iloc[0]} {len(front)} of {len(table)} settings"
    return [f"{on} {'is' if len(front) == 1 else 'are'} on the Pareto front: {'; '.join(named)}{more}."]


def _costs(collection: Collection) -> list[str]:
    """Where the question asks for it: what the first and the last value of each swept key cost."""
    if not collection.sweep.get("cost"):
        return []
    said = []
    for key in collection.parameters:
        for metric, table in cost_table(collection, key).groupby("metric", sort=False):
            ends = [rows_of(table)[0], rows_of(table)[-1]] if len(table) > 1 else []
            points = [f"{row['mean']:.3g} at {setting_text({key: row['value']}, collection.sweep)}" for row in ends]
            said += [f"{metric_label(str(metric))} {' and '.join(points)}"] if points else []
    return [f"Cost: {'; '.join(said)}."] if said else []


def _small_print(collection: Collection, chosen_by: str, split: str) -> str:
    if chosen_by == split:
        text = f"(Chosen and reported on {split}, as there is no other split: too kind to the chosen one."
    else:
        text = f"(Chosen on {chosen_by}, reported on {split}."
    left = collection.trials[~collection.trials["status"].isin(["done", "superseded"])]["status"].value_counts()
    if len(left):
        trials = "trial" if left.sum() == 1 else "trials"
        text += " Without " + ", ".join(f"{count} {status}" for status, count in left.items()) + f" {trials}."
    return text + ")"


def _nothing(collection: Collection) -> str:
    counts = collection.trials[collection.trials["trial"] != "sft"]["status"].value_counts()
    if not len(counts):
        return "No answer yet: no trial has begun."
    return "No answer yet: no trial has finished (" + ", ".join(f"{n} {status}" for status, n in counts.items()) + ")."
