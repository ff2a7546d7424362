"""Rounds of seeds: a sweep's settings get another one only where their difference to the default is undecided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raypref.config import RunConfig
from raypref.results.collect import Collection, collect
from raypref.results.labels import setting_text
from raypref.results.sequential import Decision, look
from raypref.results.summaries import Setting, by_seed, settings, user_matrix
from raypref.results.tables import headline_metric
from raypref.storage.location import Location
from raypref.sweeps.methods import seed_key
from raypref.sweeps.space import SweepConfig, Trial, Value, make_trial


def chosen_by_validation(config: RunConfig) -> bool:
    """Whether what is evaluated was chosen among several by how it did in validation."""
    return config.system != "aligned" or (config.align.keep != "last" and config.align.validations > 1)


class Rounds:
    """Plans each round's trials, looks at what they scored, and keeps what is decided.

    The first round is one seed of each setting. What was finished before, in this sweep or another, is not run again,
    and as each look sees only the seeds planned up to then, the same command comes to the same verdicts.
    """

    def __init__(
        self,
        sweep: SweepConfig,
        base: RunConfig,
        points: Sequence[Mapping[str, Value]],
        most_seeds: int,
        margin: float,
    ) -> None:
        """`points`: the settings, the default one first."""
        self.sweep, self.base, self.points = sweep, base, points
        self.most_seeds, self.margin = most_seeds, margin
        self.texts = [setting_text(point) for point in points]
        self.seeds = dict.fromkeys(self.texts, 1)
        self.decisions: dict[str, Decision] = {}
        self.number = 1
        self.done = False
        self.metric, self.split = "", ""
        self.splits: list[str] = []

    def planned(self) -> list[Trial]:
        """Every trial up to this round, those that are done included; empty when nothing is left to decide."""
        if self.done:
            return []
        pairs = [(seed, point) for point, text in zip(self.points, self.texts) for seed in range(self.seeds[text])]
        pairs.sort(key=lambda pair: pair[0])
        made = [make_trial(self.sweep, self.base, point, seed, n) for n, (seed, point) in enumerate(pairs)]
        return [trial for trial in made if trial.seed == 0 or seed_key(trial.chain.config) is not None]

    def look(self, folder: Any, root: Location | str) -> None:
        """Read what the round scored, decide what can be decided, and plan the next one."""
        collection = collect(folder, root)
        self.metric, self.split = headline_metric(collection), collection.reported
        self.splits = self._asked(collection)
        by_user = user_matrix(collection, self.metric, *self.splits)
        found = {setting.text: setting for setting in settings(collection)}
        reference, *others = self.texts
        if reference not in found:
            self.done = True  # the default has no result: there is nothing to compare with
            return
        compared = [text for text in others if text in found]
        values = [self._values(by_user, found[text]) for text in (reference, *compared)]
        kept = values[0].columns
        for of in values[1:]:
            kept = kept.intersection(of.columns)
        arrays = [of[kept].to_numpy(dtype=float) for of in values]
        before = [self.decisions[text] for text in compared] if self.decisions else []
        given = [place for place, text in enumerate((reference, *compared)) if found[text].fixed]
        decisions = look(arrays[1:], arrays[0], before, self.number, self.most_seeds, self.margin, given=given)
        self.decisions = dict(zip(compared, decisions))
        self._plan(reference)

    def _asked(self, collection: Collection) -> list[str]:
        """The splits whose questions count: the reported one, and validation where no weights were chosen by it.

        A model is asked both anyway, so that the second question to each user costs no trial.
        """
        other = collection.choosing
        kept = any(chosen_by_validation(trial.chain.config) for trial in self.planned())
        if kept or other == self.split or not collection.has(self.metric, other):
            return [self.split]
        return [other, self.split]

    def _values(self, by_user: Any, setting: Setting) -> Any:
        """(seeds, users) of the seeds planned so far, users with a value of each."""
        values = by_seed(by_user, setting)
        return values[values.index < self.seeds[setting.text]].dropna(axis=1)

    def _plan(self, reference: str) -> None:
        """The settings that are open get a seed more, and the default keeps up with them."""
        still = [text for text, decision in self.decisions.items() if decision.open]
        if not still or max(self.seeds[text] for text in still) >= self.most_seeds:
            self.done = True
            return
        for text in still:
            self.seeds[text] += 1
        self.seeds[reference] = max(self.seeds.values())
        self.number += 1

    def line(self) -> str:
        """Where the rounds stand, for people."""
        trials = sum(self.seeds.values())
        if not self.decisions:
            return f"round 1: one seed of each of {len(self.points)} settings"
        words = [decision.verdict for decision in self.decisions.values()]
        counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        if not self.done:
            more = sum(decision.open for decision in self.decisions.values())
            return f"round {self.number}: {counts}; a further seed for {more} of them and the default"
        spared = len(self.points) * self.most_seeds - trials
        told = f"{trials} trials, {spared} fewer than {self.most_seeds} seeds of all"
        return f"ended after {self.number} rounds: {counts}; {told}"

    def account(self) -> dict[str, Any]:
        """What the sweep's record keeps: what was compared, and each verdict with the numbers behind it."""
        rows = [
            {
                "setting": text, "verdict": of.verdict, "round": of.look, "difference": of.test.difference,
                "low": of.test.low, "high": of.test.high, "hopeless": of.hopeless, "seeds": self.seeds[text],
            }
            for text, of in self.decisions.items()
        ]  # fmt: skip
        return {
            "metric": self.metric, "split": self.split, "splits": self.splits, "margin": self.margin,
            "rounds": self.number, "most_seeds": self.most_seeds, "comparisons": rows,
        }  # fmt: skip
