"""The answer to a sweep's question, in a sentence."""

from __future__ import annotations

from typing import Any

from raypref.errors import UserError
from raypref.results.collect import Collection
from raypref.results.curves import cost_table
from raypref.results.diagnosis import diagnosis, without_effect
from raypref.results.effect import (
    LikelyBest,
    against_sft,
    beside,
    chance,
    differences,
    effect,
    likely_best,
    listing,
    power_said,
)
from raypref.results.labels import metric_label, rows_of, setting_text
from raypref.results.multi_objective import joint_table, objectives
from raypref.results.protocol_order import orders
from raypref.results.summaries import Setting, comparisons, margin_of, settings, summary
from raypref.results.tables import headline_metric

MOST_ON_FRONT = 4  # settings named in the answer; the figure and its table show them all


def best_setting(collection: Collection, metric: str | None = None) -> tuple[Setting, str] | None:
    """The setting with the best mean on validation, and the split it was chosen by; None where none is finished.

    Of equals the default is taken, else the first. Where the trials have no validation rows, the test split decides,
    and the chosen one's own score is then too kind to it: `raypref.results.choice` says by how much.
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
    """Does what is swept matter; which setting is best, what it scores on test, what alignment gains; what chance is.

    Args:
        parameter: a swept key; needed by no sweep over one key, and in others only checked.
        metric: by default HR@1 by generation, else by exact ranking.
    """
    if parameter is not None and parameter not in collection.parameters:
        known = ", ".join(collection.parameters)
        raise UserError(f"the sweep does not vary {parameter}", where="parameter", hint=f"choose one of: {known}")
    metric = metric or headline_metric(collection)
    best = best_setting(collection, metric)
    if best is None:
        return _nothing(collection)
    setting, chosen_by = best
    split = collection.reported
    scores = {row["setting"]: row for row in rows_of(summary(collection, metric, split))}
    if setting.text not in scores:
        return _nothing(collection)
    said = [
        effect(collection, metric, split, setting if chosen_by != split else None),
        _unable(collection),
        _best(collection, setting, metric, split, chosen_by, scores[setting.text]),
        against_sft(collection, setting, metric, split),
        chance(collection),
        beside(collection, setting, metric, split),
        *_front(collection),
        *_costs(collection),
        *(order.said() for order in orders(collection)[:1]),
        _small_print(collection, chosen_by, split),
    ]
    return " ".join(filter(None, said))


def caveats(collection: Collection) -> list[str]:
    """What stands under the answer: what could be seen, and whether what was swept could act."""
    power = power_said(collection, headline_metric(collection), collection.reported)
    return [*filter(None, [power]), *diagnosis(collection)]


def _unable(collection: Collection) -> str:
    """Empty where all that was swept could act."""
    found = without_effect(collection)
    return f"But {listing(found)} could not act in this training: see the diagnosis." if found else ""


def _best(
    collection: Collection, setting: Setting, metric: str, split: str, chosen_by: str, row: dict[str, Any]
) -> str:
    """`λ=2 gives HR@1 0.369 [0.356, 0.382], better than λ=0; the default λ=1 is likelier the best (0.6 to 0.3).`"""
    text = f"{setting.text} gives {metric_label(metric)} {_score(row)}"
    for other in (name for name in _objectives(collection) if name != metric and collection.has(name, split)):
        found = {row["setting"]: row for row in rows_of(summary(collection, other, split))}
        text += f" and {metric_label(other)} {_score(found[setting.text])}" if setting.text in found else ""
    compared = comparisons(collection, metric, split, setting)
    if len(compared):
        default = next((s.text for s in settings(collection) if s.default), None)
        text += f": {differences(compared, margin_of(collection), default, brief=len(collection.parameters) > 1)}"
    choice = likely_best(collection, metric, chosen_by)
    if choice is not None:
        text += f". {_likely(setting.text, choice)}"
        if chosen_by == split:
            text += f"; corrected for having been chosen by this score it is {row['mean'] - choice.optimism:.3f}"
    return text + "."


def _likely(chosen: str, choice: LikelyBest) -> str:
    share = choice.chances.get(chosen, 0.0)
    top, most = max(choice.chances.items(), key=lambda item: item[1])
    text = f"That it is truly the best of them has a chance of {share:.0%}"
    return text if top == chosen or most == share else f"{text}, {top} one of {most:.0%}"


def _score(row: dict[str, Any]) -> str:
    if row["seeds"] > 1:
        return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['mean']:.3f} [{row['low_users']:.3f}, {row['high_users']:.3f}] over users"


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
        text = f"(Chosen and reported on {split}, as there is no other split."
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
