"""The answer's sentences: does what is swept matter, is the best one sure, what alignment gained, what chance would."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from raypref.results.choice import choose
from raypref.results.collect import Collection
from raypref.results.crossed import crossed_test, seed_spread
from raypref.results.earlier import sweep_spread
from raypref.results.labels import metric_label, rows_of, symbol
from raypref.results.power import seeds_for, smallest_difference, users_for
from raypref.results.statistics import Test, holm, paired_bootstrap
from raypref.results.summaries import (
    Setting,
    by_seed,
    comparisons,
    margin_of,
    matrix,
    settings,
    sft_setting,
    summary,
    user_matrix,
)
from raypref.results.verdicts import BETTER, EQUIVALENT, LEVEL, UNDECIDED, WORSE

BESIDE = "valid_ratio"  # what alignment often pays with


def effect(collection: Collection, metric: str, split: str, chosen: Setting | None = None) -> str:
    """The verdict on the question, then its numbers; empty for fewer than two settings.

    `Against λ=2 no measurable effect of λ on HR@1 (0.131 to 0.137; a difference of 0.02 would have been seen).`

    Args:
        chosen: the setting that another split chose: where nothing differs from the default, some setting may still
            differ from this one. Both sets of comparisons are then corrected as one.
    """
    found = summary(collection, metric, split)
    means = found.loc[~found["sft"].astype(bool), "mean"]
    reference = _reference(collection)
    if len(means) < 2 or reference is None:
        return ""
    compared = comparisons(collection, metric, split, reference)
    named = " and ".join(symbol(key, collection.sweep) for key in collection.parameters)
    said, margin = metric_label(metric), margin_of(collection)
    span = f"{means.min():.3f} to {means.max():.3f}"
    moved = compared[compared["verdict"].isin([BETTER, WORSE])]
    against = reference.text
    if not len(moved) and chosen is not None and chosen.params != reference.params:
        others = comparisons(collection, metric, split, chosen)
        others = others[others["setting"] != reference.text]  # compared already, the other way round
        sure = holm([*compared["p"], *others["p"]])[len(compared) :] <= LEVEL
        moved, against = others[sure & others["verdict"].isin([BETTER, WORSE])], chosen.text
    if len(moved):
        return f"{named} moves {said} ({span}): against {against}, {_named(moved)}."
    words = set(compared["verdict"])
    if words == {EQUIVALENT}:
        return f"{named} makes no difference to {said} of {margin:g} or more ({span}): all settings are equivalent."
    seen = seen_difference(compared)
    if not math.isfinite(seen):
        return f"No difference of {said} could be tested ({span})."
    if seen == 0:
        return f"No effect of {named} on {said} ({span}): no user's score differs."
    power = f"a difference of {seen:.2g} would have been seen"
    return f"Against {reference.text} no measurable effect of {named} on {said} ({span}; {power}, four times in five)."


def seen_difference(compared: pd.DataFrame) -> float:
    """The difference that these comparisons find with 80 % power, by the largest of their errors; NaN without any."""
    tested = compared[np.isfinite(compared["error"].astype(float))]
    if not len(tested):
        return math.nan
    return max(smallest_difference(row["error"], row["freedom"], len(tested)) for row in rows_of(tested))


def power_said(collection: Collection, metric: str, split: str) -> str:
    """`What could be seen: with 480 users and 3 seeds this sweep finds a true difference of HR@1 to λ=2 four times in
    five if it is 0.012 or more. To find one of 0.01 would take 5 seeds or 812 users.`

    Empty where nothing could be tested. What more would take is told where something is undecided, from the sweep's own
    spread of seeds and users.
    """
    reference = _reference(collection)
    if reference is None:
        return ""
    compared = comparisons(collection, metric, split, reference)
    seen = seen_difference(compared)
    if not math.isfinite(seen) or seen == 0:  # nothing differs: nothing is known of how much it would vary
        return ""
    seeds, users = int(compared["seeds"].min()), int(compared["users"].max())
    models = f"{seeds} seeds{' or more' if compared['seeds'].max() > seeds else ''}"
    if seeds < 2:
        models = "one seed each (other seeds were not asked)"
    text = (
        f"What could be seen: with {users} users and {models} this sweep finds a true difference of "
        f"{metric_label(metric)} to {reference.text} four times in five if it is {seen:.2g} or more; of smaller ones "
        "it mostly says undecided."
    )
    wanted = margin_of(collection)
    if seen > wanted and UNDECIDED in set(compared["verdict"]):
        text += f" {_more(collection, wanted, users, seeds, len(compared) + 1)}"
    return text


def _more(collection: Collection, wanted: float, users: int, seeds: int, settings: int) -> str:
    """What it would take to find a difference of `wanted`."""
    spread = sweep_spread(collection)
    if spread is None:
        return f"To find one of {wanted:g} takes more seeds (--decide {wanted:g} adds them where they help) or users."
    enough = seeds_for(wanted, spread, users, settings), users_for(wanted, spread, seeds, settings)
    needs = [f"{number:,} {of}" for number, of in zip(enough, ("seeds", "users")) if number is not None]
    if needs:
        return f"To find one of {wanted:g} would take {' or '.join(needs)}."
    moved = math.sqrt(spread.seeds)
    return (
        f"One of {wanted:g} is out of reach of more seeds or users alone: another seed moves a difference by some "
        f"{moved:.2g}, other users by some {math.sqrt(spread.lasting / users):.2g}."
    )


def differences(compared: pd.DataFrame, margin: float, default: str | None = None, brief: bool = False) -> str:
    """`better than λ=0, worse than λ=3, equivalent to λ=1 (less than 0.01 apart); whether it differs from λ=2 is
    undecided`, of what is compared with the others, whose rows these are.

    `brief`: settings of several keys have long names, and many of them are counted instead.
    """

    def listed(word: str) -> str:
        names = compared.loc[compared["verdict"] == word, "setting"].tolist()
        if brief and len(names) > 2:
            return f"{len(names)} other settings{', the default among them' if default in names else ''}"
        return listing(names)

    words = set(compared["verdict"])
    said = [f"better than {listed(WORSE)}"] if WORSE in words else []
    said += [f"worse than {listed(BETTER)}"] if BETTER in words else []
    if EQUIVALENT in words:
        said.append(f"equivalent to {listed(EQUIVALENT)} (less than {margin:g} apart)")
    text = ", ".join(said)
    if UNDECIDED in words:
        text += f"{'; ' if text else ''}whether it differs from {listed(UNDECIDED)} is undecided"
    return text or "no difference could be tested"


def _named(found: pd.DataFrame) -> str:
    """`λ=2 is better (+0.031), λ=10 worse (-0.012)`, the greatest differences first."""
    ordered = found.reindex(found["difference"].abs().sort_values(ascending=False, kind="stable").index)
    parts = [f"{row['setting']} is {row['verdict']} ({row['difference']:+.3f})" for row in rows_of(ordered)]
    return listing(parts, most=3)


def listing(names: list[str], most: int = 6) -> str:
    """`a, b and c`, cut after `most`."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def against_sft(collection: Collection, setting: Setting, metric: str, split: str) -> str:
    """`Alignment gains 0.02 of HR@1 over SFT (0.150; not significant) and loses 0.06 of ValidRatio (significant).`

    Significant: p < 0.05 by Holm's correction over what the sentence says.
    """
    sft = sft_setting(collection)
    if sft is None:
        return ""
    rows: list[tuple[str, dict[str, Any]]] = []
    for name in dict.fromkeys((metric, BESIDE)):
        if collection.has(name, split):
            compared = comparisons(collection, name, split, sft)
            rows += [(name, row) for row in rows_of(compared[compared["setting"] == setting.text])]
    if not rows or any(row["difference"] != row["difference"] for _, row in rows[:1]):
        return ""
    sure = holm([row["p"] for _, row in rows]) < LEVEL
    scores = summary(collection, metric, split)
    base = scores.loc[scores["sft"].astype(bool), "mean"]
    parts = []
    for (name, row), significant in zip(rows, sure):
        verb = "gains" if row["difference"] >= 0 else "loses"
        over = f" over SFT ({base.iloc[0]:.3f})" if name == metric else ""
        mark = "significant" if significant else "not significant"
        parts.append(f"{verb} {abs(row['difference']):.3f} of {metric_label(name)}{over} ({mark})")
    return f"Alignment {' and '.join(parts)}."


def chance(collection: Collection) -> str:
    """`Chance is 0.05.`; empty where the lists are not the config's own."""
    level = chance_level(collection)
    return "" if math.isnan(level) else f"Chance is {level:.2g}."


def beside(collection: Collection, setting: Setting, metric: str, split: str) -> str:
    """`sasrec has 0.269 on the same candidates, λ=0 0.071 more (significant).`; empty where nothing stands beside it.

    Significant: p < 0.05, seeds and users random, the recommender one given model.
    """
    name, value = best_beside(collection, metric, split)
    if not name:
        return ""
    said = f"{name} has {value:.3f} on the same candidates"
    test = _against_beside(collection, setting, metric, split, name)
    if test is None:
        return f"{said}."
    more = "more" if test.difference >= 0 else "less"
    mark = "significant" if test.p < LEVEL else "not significant"
    return f"{said}, {setting.text} {abs(test.difference):.3f} {more} ({mark})."


def _against_beside(collection: Collection, setting: Setting, metric: str, split: str, name: str) -> Test | None:
    """A setting against a recommender beside the sweep, user by user; None where its rows are not at hand."""
    table, by_user = collection.beside.get(name), user_matrix(collection, metric, split)
    if table is None:
        return None
    own = table.filter(pc.equal(table["split"], split)).to_pandas()
    column = next(n for n in (metric, metric.replace("generated_", "exact_")) if n in own and own[n].notna().any())
    theirs = own.groupby("user")[column].mean()
    values = {each.text: by_seed(by_user, each) for each in settings(collection)}
    ours = values[setting.text]
    ours = ours.set_axis(ours.columns.get_level_values("user"), axis=1)
    users = ours.columns.intersection(theirs.index)
    one, two = ours[users].to_numpy(dtype=float), theirs[users].to_numpy(dtype=float)
    spread = seed_spread(each.to_numpy() for each in values.values())
    if spread is None:
        return paired_bootstrap(one.mean(axis=0), two)
    return crossed_test(one, two, spread, fixed=True)


def chance_level(collection: Collection) -> float:
    """HR@1 of one who points blindly: one over the candidates of a test list; NaN where that isn't known."""
    config = collection.sweep.get("config", {})
    data = config.get("transfer") or config.get("data") or {}
    drawn = data.get("candidates", {}).get("eval_random")
    return math.nan if drawn is None or data.get("source", {}).get("kind") == "sdpo" else 1 / (drawn + 1)


def best_beside(collection: Collection, metric: str, split: str) -> tuple[str, float]:
    """The best of the recommenders beside a sweep by `metric`, and its score; "" and NaN where there is none.

    A recommender generates nothing: its answer is the item that it ranks first, or last where the least is asked for.
    """
    names = (metric, metric.replace("generated_", "exact_"))
    found = [
        (level["name"], level["value"])
        for level in collection.sweep.get("levels", ())
        if level["metric"] in names and level["split"] == split
    ]
    return max(found, key=lambda level: level[1], default=("", math.nan))


@dataclass(frozen=True)
class LikelyBest:
    """What a choice among settings is worth."""

    chances: dict[str, float]
    """By setting, how likely it is the best."""
    optimism: float
    """How much too kind the chosen one's score is where it was chosen by it."""


def likely_best(collection: Collection, metric: str, split: str) -> LikelyBest | None:
    """How likely each setting is the best by `split`; None where there are fewer than two."""
    by_user = matrix(collection, metric, split)
    kept = {s.text: by_user.loc[by_user.index.intersection(s.ids)].to_numpy() for s in settings(collection)}
    kept = {text: values for text, values in kept.items() if len(values)}
    if len(kept) < 2:
        return None
    choice = choose(list(kept.values()))
    return LikelyBest(dict(zip(kept, choice.chances.tolist())), choice.optimism)


def _reference(collection: Collection) -> Setting | None:
    """What the verdict is against: the default setting, else the first."""
    found = settings(collection)
    return next((setting for setting in found if setting.default), found[0] if found else None)
