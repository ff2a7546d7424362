"""Methods by data sets, as the papers' tables have them: our numbers, theirs beside them, bold where it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import yaml

from raypref.results.collect import Collection
from raypref.results.labels import metric_label, rows_of
from raypref.results.protocol_order import Order, orders
from raypref.results.recommended_lists import list_table, score_text
from raypref.results.render import Cells
from raypref.results.statistics import holm, mcnemar, paired_bootstrap, wilcoxon
from raypref.results.summaries import Setting, comparisons, matrix, settings, summary
from raypref.results.tables import domain_notes, generation_notes
from raypref.results.verdicts import LEVEL

SHOWN = (
    "generated_hr@1",
    "valid_ratio",
    "exact_hr@1",
    "exact_hr@5",
    "exact_ndcg@5",
    "exact_mrr",
    "beam_hr@5",
    "beam_ndcg@5",
    "constrained_hr@1",
    "constrained_outside",
    "constrained_beam_hr@5",
    *(f"catalog_{name}" for name in ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@20")),
)
PROBES = {
    "exact_adherence": "adherence",
    "exact_avoidance": "avoidance",
    "exact_aversion": "aversion",
    "generated_adherence": "adherence",
    "generated_avoidance": "avoidance",
    "generated_aversion": "aversion",
}
PUBLISHED = Path(__file__).parent / "published.yaml"


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark found, as tables of numbers."""

    scores: pd.DataFrame
    """A row for each data set, method and metric: mean, low, high (95 % over seeds, NaN for one model), low_users,
    high_users (95 % over users), seeds, best (better than each other method, Holm over the whole benchmark).
    """
    tests: pd.DataFrame
    """A row for each data set and method against the reference: difference of HR@1 with low and high, p and p_holm of
    the crossed test; low_users, high_users and p of the paired bootstrap; p of McNemar (first seeds' models) and of
    Wilcoxon on NDCG@5; effect sizes.
    """
    published: pd.DataFrame
    """A row for each data set, method and column of a paper's table: value."""
    reference: str
    comparisons: int
    """Number of tests that Holm's correction is over."""
    lists: pd.DataFrame
    """What lists of the whole catalog are worth beyond accuracy (`list_table`), of all data sets; none is tested."""
    orders: dict[str, list[Order]]
    """Of each data set whether the order of methods survives the step to the whole catalog."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Of each data set: how far generation lies from exact ranking, and where the models come from another one."""


def benchmark(collections: Mapping[str, Collection], reference: str, metrics: Sequence[str] = SHOWN) -> Benchmark:
    """All tables of a benchmark.

    Holm's correction is over all comparisons that the tables show: of each column's best method with each other one,
    and of each method with the reference. So the chance of any false bold or star in the whole benchmark is at most
    5 %.

    Args:
        collections: a sweep over `method`, by the name of its data set.
        reference: the method that others are tested against.
    """
    scores, family, tests = [], [], []
    for dataset, collection in collections.items():
        for metric in [*metrics, *PROBES]:
            split = PROBES.get(metric, collection.reported)
            if not collection.has(metric, split):
                continue
            for row in rows_of(_scores(collection, metric, split)):
                kept = {k: row[k] for k in ("seeds", "mean", "low", "high", "low_users", "high_users")}
                scores.append({"dataset": dataset, "method": row["method"], "metric": metric, **kept})
            family += _with_best(collection, dataset, metric, split)
        tests += _with_reference(collection, dataset, reference)
    pairs = pd.DataFrame(family, columns=["dataset", "metric", "best", "other", "difference", "p"])
    table = pd.DataFrame(tests)
    p = holm(np.concatenate([pairs["p"].to_numpy(float), table["p"].to_numpy(float) if len(table) else []]))
    pairs["p_holm"] = p[: len(pairs)]
    if len(table):
        table["p_holm"] = p[len(pairs) :]
        table["significant"] = table["p_holm"] < LEVEL
    frame = pd.DataFrame(scores)
    frame["best"] = False
    for column, group in pairs.groupby(["dataset", "metric", "best"]):
        of, by, best = cast("tuple[str, str, str]", column)
        if ((group["p_holm"] < LEVEL) & (group["difference"] < 0)).all():
            of_best = (frame["dataset"] == of) & (frame["metric"] == by) & (frame["method"] == best)
            frame.loc[of_best, "best"] = True
    found = {name: orders(c) for name, c in collections.items()}
    notes = {
        name: domain_notes(c) + generation_notes(c) + _catalog_notes(c, found[name]) for name, c in collections.items()
    }
    lists = pd.concat([list_table(c, name) for name, c in collections.items()], ignore_index=True)
    count = int(np.isfinite(p).sum())
    return Benchmark(frame, table, _published(collections), reference, count, lists, found, notes)


def _catalog_notes(collection: Collection, found: Sequence[Order]) -> list[str]:
    """What the columns of the whole catalog are of; nothing where it was not ranked."""
    config = collection.sweep.get("config", {})
    how = config.get("evaluation", {}).get("catalog", "none")
    if how == "none" and not found:
        return []
    left = ", without those that the user has met" if how == "unseen" else ""
    asked = (
        "; models were trained on prompts with lists" if config.get("prompt", {}).get("candidates") != "none" else ""
    )
    return [
        f"all: ranked over the whole catalog{left}, language models after prompts without a list{asked}.",
        *(order.said() for order in found),
    ]


def _with_best(collection: Collection, dataset: str, metric: str, split: str) -> list[dict[str, Any]]:
    """The best method's comparisons with each other one, by one metric."""
    found = _scores(collection, metric, split)
    if len(found) < 2:
        return []
    top = str(found.sort_values("mean", kind="stable")["method"].iloc[-1])
    compared = comparisons(collection, metric, split, _setting(collection, top))
    names = _names(collection)
    return [
        {
            "dataset": dataset,
            "metric": metric,
            "best": top,
            "other": names[row["setting"]],
            "difference": row["difference"],
            "p": row["p"],
        }
        for row in rows_of(compared)
        if row["test"] != "none"
    ]


def _with_reference(collection: Collection, dataset: str, reference: str) -> list[dict[str, Any]]:
    """Each method against the reference, by HR@1 and NDCG@5 of exact ranking."""
    names = _names(collection)
    if reference not in names.values():
        return []
    against = _setting(collection, reference)
    split = collection.reported
    hits, gains = (matrix(collection, metric, split) for metric in ("exact_hr@1", "exact_ndcg@5"))
    users = hits.columns.get_level_values("user").to_numpy()
    found = []
    for row in rows_of(comparisons(collection, "exact_hr@1", split, against)):
        setting = next(s for s in settings(collection) if s.text == row["setting"])
        ours, theirs = ([t for t in s.ids if t in hits.index] for s in (setting, against))
        one, two = hits.loc[ours].to_numpy(), hits.loc[theirs].to_numpy()
        both = np.isfinite(one).all(axis=0) & np.isfinite(two).all(axis=0)
        one, two = one[:, both], two[:, both]
        over_users = paired_bootstrap(one.mean(axis=0), two.mean(axis=0), users[both])
        paired = mcnemar(one[0], two[0])
        graded = [gains.loc[ids].to_numpy()[:, both].mean(axis=0) for ids in (ours, theirs)]
        ranked = wilcoxon(*graded)
        numbers = {k: row[k] for k in ("difference", "low", "high", "p", "effect", "users")}
        found.append(
            {"dataset": dataset, "method": names[row["setting"]], **numbers}
            | {"low_users": over_users.low, "high_users": over_users.high, "p_bootstrap": over_users.p}
            | {"p_mcnemar": paired.p, "effect_mcnemar": paired.effect}
            | {"difference_ndcg": ranked.difference, "p_wilcoxon": ranked.p, "effect_wilcoxon": ranked.effect}
        )
    return found


def _scores(collection: Collection, metric: str, split: str) -> pd.DataFrame:
    found = summary(collection, metric, split)
    return found[~found["sft"].astype(bool)]  # a method of the sweep, or not in the table


def _setting(collection: Collection, method: str) -> Setting:
    return next(s for s in settings(collection) if s.params["method"] == method)


def _names(collection: Collection) -> dict[str, str]:
    return {s.text: str(s.params["method"]) for s in settings(collection)}


def _published(collections: Mapping[str, Collection]) -> pd.DataFrame:
    rows = []
    for entry in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")):
        for dataset, collection in collections.items():
            if _is_of(entry, collection.sweep):
                column = f"{entry['paper']}: HR@1 on {entry['data']}, LLMs {entry['backbone']}"
                rows += [
                    {"dataset": dataset, "column": column, "method": m, "value": v} for m, v in entry["hr@1"].items()
                ]
    return pd.DataFrame(rows, columns=["dataset", "column", "method", "value"])


def _is_of(entry: Mapping[str, Any], sweep: Mapping[str, Any]) -> bool:
    """Whether a paper's table and a sweep are of the same data."""
    config = sweep.get("config", {})
    category = config.get("data", {}).get("source", {}).get("category")
    same = sweep.get("dataset") in entry["sources"] and entry.get("category") in (None, category)
    return same and not config.get("transfer")


def score_cells(found: Benchmark, dataset: str) -> Cells:
    """The main table of one data set."""
    scores = found.scores[found.scores["dataset"] == dataset]
    metrics = list(dict.fromkeys(scores["metric"]))
    published = found.published[found.published["dataset"] == dataset]
    columns = list(dict.fromkeys(published["column"]))
    marked = set()
    if len(found.tests):
        marked = set(found.tests.loc[found.tests["significant"] & (found.tests["dataset"] == dataset), "method"])
    rows = []
    for method in dict.fromkeys(scores["method"]):
        own = scores[scores["method"] == method].set_index("metric")
        cells = [(f"{method}{'*' if method in marked else ''}", False)]
        cells.append((str(int(own["seeds"].max())), False))
        cells += [
            (score_text(own.loc[m]), bool(own.loc[m, "best"])) if m in own.index else ("-", False) for m in metrics
        ]
        for column in columns:
            value = published[(published["column"] == column) & (published["method"] == method)]["value"]
            cells.append((f"{value.iloc[0]:.4f}" if len(value) else "-", False))
        rows.append(cells)
    bold = (
        f"Bold: better than each other method; *: HR@1 differs from that of {found.reference}; both p < {LEVEL:g} "
        f"after Holm's correction over all {found.comparisons} comparisons of the benchmark."
    )
    notes = ["Mean over seeds ± half the 95 % interval over seeds (Student's t); one model has none.", bold]
    notes += found.notes.get(dataset, [])
    if columns:
        notes.append("The papers' numbers are as printed; their protocols are not ours.")
    return Cells(dataset, ["method", "seeds", *map(metric_label, metrics), *columns], rows, notes)


def comparison_cells(found: Benchmark, dataset: str) -> Cells | None:
    """The tests against the reference, None where there are none."""
    if not len(found.tests):
        return None
    header = ["method", "HR@1 difference", "95 % (seeds and users)", "p (Holm)", "95 % (users)", "p bootstrap",
              "p McNemar", "effect", "NDCG@5 difference", "p Wilcoxon", "effect"]  # fmt: skip
    rows = []
    for row in rows_of(found.tests[found.tests["dataset"] == dataset]):
        texts = [row["method"], f"{row['difference']:+.4f}", _bounds(row["low"], row["high"]), _p(row["p_holm"])]
        texts += [_bounds(row["low_users"], row["high_users"]), _p(row["p_bootstrap"])]
        texts += [_p(row["p_mcnemar"]), f"{row['effect_mcnemar']:+.2f}"]
        texts += [f"{row['difference_ndcg']:+.4f}", _p(row["p_wilcoxon"]), f"{row['effect_wilcoxon']:+.2f}"]
        rows.append([(text, False) for text in texts])
    note = (
        f"Against {found.reference}, by exact ranking. Seeds and users as crossed random effects, corrected by Holm; "
        "users alone by paired bootstrap of the mean over seeds; McNemar of the first seed's models, effect "
        "(b - c)/(b + c); Wilcoxon of the mean over seeds, rank-biserial correlation. The last three are not corrected."
    )
    return Cells(f"{dataset}: tests", header, rows, [note])


def _bounds(low: float, high: float) -> str:
    return f"[{low:+.4f}, {high:+.4f}]" if low == low else "-"


def _p(value: float) -> str:
    if value != value:
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
