"""Each method of a study gets the same settings, and its row is the one that validates best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raypref.config import RunConfig
from raypref.config.loading import load, override, read_yaml, validated
from raypref.config.objectives import OBJECTIVE_CONFIGS
from raypref.config.recommender import BASELINES
from raypref.errors import UserError
from raypref.storage.store import write_json
from raypref.sweeps import fair_tuning
from raypref.sweeps.fair_tuning import points, tuned_study
from raypref.sweeps.methods import METHOD, method_changes
from raypref.sweeps.replicate import ReplicateOptions, StudyConfig
from raypref.sweeps.space import Range, SweepConfig, Trial, TuningSpace, grid, load_sweep, trials
from tests.support.processes import CHECKOUT

FILE = CHECKOUT / "sweeps" / "tuning.yaml"
SPACE = validated(TuningSpace, read_yaml(FILE), str(FILE))
BASE = load("replicate")[0]
LR, STEPS, BETA = "align.learning_rate", "align.max_steps", "align.objective.beta"


def config(method: str) -> RunConfig:
    return override(BASE, method_changes(method, BASE), "test")


def test_all_methods_get_the_same_learning_rates_and_lengths() -> None:
    of = {method: points(config(method), method, {}, 8, SPACE) for method in ("sdpo", "recpo", "simpo", "eapo")}
    assert all(len(settings) == 8 for settings in of.values())
    alike = [[(setting[LR], setting[STEPS]) for setting in settings] for settings in of.values()]
    assert alike.count(alike[0]) == 4
    assert len({setting[BETA] for setting in of["sdpo"]}) == 8
    assert of["sdpo"][0] == {LR: 5e-5, STEPS: 60, BETA: 1.0}  # the preset's own
    for setting in of["sdpo"][1:]:
        assert setting[LR] * 1.05 >= 0.25 * 5e-5
        assert setting[LR] <= 16 * 5e-5 * 1.05
        assert 30 <= setting[STEPS] <= 240
        assert isinstance(setting[STEPS], int)
    spread = [math.log(setting[LR]) for setting in of["sdpo"][1:]]
    assert max(spread) - min(spread) > math.log(64) / 2  # not huddled in one half


def test_a_greater_budget_begins_with_the_points_of_a_smaller_one() -> None:
    assert points(config("napo"), "napo", {}, 9, SPACE)[:4] == points(config("napo"), "napo", {}, 4, SPACE)


def test_what_a_variant_sets_itself_is_not_tuned() -> None:
    free, fixed = (points(config("sdpo"), "sdpo", given, 5, SPACE) for given in ({}, {BETA: 3.0}))
    assert fixed == [{key: value for key, value in setting.items() if key != BETA} for setting in free]


@pytest.mark.parametrize(
    "method", [*OBJECTIVE_CONFIGS, "sft", *(n for n in BASELINES if n not in ("random", "popularity"))]
)
def test_every_method_takes_every_setting(method: str) -> None:
    for setting in points(config(method), method, {}, 6, SPACE):
        assert override(config(method), setting, "test") is not None


def test_every_trained_method_of_the_main_study_has_a_key_of_its_own() -> None:
    study = load_sweep(CHECKOUT / "sweeps" / "replicate" / "main.yaml", StudyConfig)
    methods = {str(changes.get(METHOD, name)) for name, changes in study.variants.items()}
    assert methods - {"random", "popularity", "zero-shot", "sft"} <= set(SPACE.own)


def test_a_key_that_a_method_lacks_is_named() -> None:
    space = SPACE.model_copy(update={"own": {"sdpo": {"align.objective.betta": Range(low=0.1, high=1.0)}}})
    with pytest.raises(UserError, match=r"betta.*beta"):
        points(config("sdpo"), "sdpo", {}, 3, space)


class Measured:
    """In the place of `run_sweep`: writes what each trial would have scored, by a rule over its config."""

    def __init__(self, folder: Path, broken: str = "") -> None:
        self.folder, self.broken = folder, broken
        self.seen: dict[str, list[Trial]] = {}

    def __call__(self, sweep: SweepConfig, base: RunConfig, *_: Any) -> Path:
        folder = self.folder / sweep.name
        self.seen[sweep.name] = trials(sweep, base, grid(sweep, base))
        for trial in self.seen[sweep.name]:
            made = trial.chain.config
            training = made.sft if made.system == "sft" else made.align
            score = 1 - abs(math.log(training.learning_rate / (1e-3 if made.system == "sft" else 2e-4)))
            record: dict[str, Any] = {"params": dict(trial.params), "status": "done"}
            record["metrics"] = {"validation": {"exact_hr@1": score}, "test": {"exact_hr@1": -score}}
            if self.broken and trial.method.startswith(self.broken):
                record = {"params": dict(trial.params), "status": "failed"}
            write_json(folder / "trials" / f"{trial.id}.json", record)
        return folder


def study(
    monkeypatch: pytest.MonkeyPatch, fake: Measured, budget: int = 6
) -> tuple[SweepConfig, RunConfig, list[dict[str, Any]]]:
    monkeypatch.setattr(fair_tuning, "run_sweep", fake)
    names = ("popularity", "sft", "sdpo", "dpo-3")
    declared = SweepConfig(
        name="replicate-x", question="?", space={METHOD: names}, default={METHOD: "sft"}, seeds=2,
        variants={"dpo-3": {METHOD: "dpo", "align.negatives": 3}},
    )  # fmt: skip
    base = override(BASE, {"sft.learning_rate": 2.0e-4}, "test")  # far from what is best
    return tuned_study(declared, base, budget, FILE, ReplicateOptions(), {}, Console(quiet=True))


def test_the_best_on_validation_is_the_method_s_row_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Measured(tmp_path)
    sweep, base, tried = study(monkeypatch, fake)
    assert {row["method"] for row in tried} == {"sft", "sdpo", "dpo-3"}
    for method in ("sft", "sdpo", "dpo-3"):
        own = [row for row in tried if row["method"] == method]
        assert len(own) == 6
        assert [row["first"] for row in own] == [True, *[False] * 5]
        best = max(own, key=lambda row: row["value"])
        kept = sweep.variants[method]
        assert {key: kept[key] for key in best["setting"]} == best["setting"]
    assert base.sft.learning_rate == sweep.variants["sft"]["sft.learning_rate"] > 2e-4
    assert base.sft.keep == "hr@1"
    made = {trial.method: trial.chain.config for trial in trials(sweep, base, grid(sweep, base)) if trial.seed == 0}
    assert list(made) == ["sft", "popularity", "sft-untuned", "sdpo", "sdpo-untuned", "dpo-3", "dpo-3-untuned"]
    for name in ("sdpo", "dpo-3"):  # the tuned one begins at the tuned SFT, the old one at the old
        assert made[name].sft == made["sft"].sft
        assert made[f"{name}-untuned"].sft == made["sft-untuned"].sft
        assert made[f"{name}-untuned"].sft.learning_rate == 2e-4
        assert made[f"{name}-untuned"].sft.keep == "last"
        assert made[f"{name}-untuned"].align.learning_rate == BASE.align.learning_rate
        assert made[name].align.keep == "hr@1"
    assert made["dpo-3"].align.negatives == made["dpo-3-untuned"].align.negatives == 3
    assert made["dpo-3"].align.objective.name == "dpo"


def test_aligned_methods_are_tried_from_the_sft_model_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Measured(tmp_path)
    _, base, _ = study(monkeypatch, fake)
    aligned = fake.seen["replicate-x-tuning"]
    assert {trial.chain.config.sft for trial in aligned} == {base.sft}
    assert {trial.chain.config.evaluation.splits for trial in aligned} == {("validation",)}
    assert not any(trial.chain.config.evaluation.generate for trial in aligned)


def test_a_tuned_trial_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Measured(tmp_path)
    sweep, base, _ = study(monkeypatch, fake)
    tried = {trial.chain.trained.address.key for trial in fake.seen["replicate-x-tuning"]}
    final = [t for t in trials(sweep, base, grid(sweep, base)) if t.seed == 0 and t.method in ("sdpo", "dpo-3")]
    assert {trial.chain.trained.address.key for trial in final} <= tried


def test_a_method_that_can_t_be_trained_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no setting of sdpo could be trained"):
        study(monkeypatch, Measured(tmp_path, broken="sdpo"))
    with pytest.raises(UserError, match="two settings"):
        study(monkeypatch, Measured(tmp_path), budget=1)
