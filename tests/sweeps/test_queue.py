"""What a sweep runs, in what order, and never twice."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from raypref.errors import UserError
from raypref.sweeps.optuna_study import Study, rounded
from raypref.sweeps.space import Range, SweepConfig
from raypref.sweeps.tuning import scheduler
from tests.support.simulated import BETA, LAMBDA, Simulated, config, points
from tests.support.tiny_chain import TINY, changed

ANY_LAMBDA = {LAMBDA: {"low": 0.0, "high": 4.0}}


def peak(trial):
    """Best at λ = 1, whatever the seed adds."""
    return 0.5 - (trial.params[LAMBDA] - 1) ** 2 / 20 + 0.01 * trial.seed


def test_the_default_setting_comes_first(tmp_path):
    assert points(Simulated(tmp_path, config()).run()) == [2, 0, 1]


def test_a_default_outside_the_grid_is_run_all_the_same(tmp_path):
    assert points(Simulated(tmp_path, config(space={LAMBDA: (0, 1)})).run()) == [2, 0, 1]


@pytest.mark.parametrize("search", ["random", "tpe", "gp", "nsga2"])
def test_every_search_starts_with_the_default_and_repeats_nothing(tmp_path, search):
    ran = Simulated(tmp_path, config(search=search, space=ANY_LAMBDA, trials=12), peak).run()
    assert points(ran)[0] == 2
    assert len(set(points(ran))) == 12
    assert all(0 <= value <= 4 for value in points(ran))


@pytest.mark.parametrize("search", ["random", "tpe", "gp", "nsga2"])
def test_what_is_proposed_can_be_read_and_is_not_proposed_again(tmp_path, search):
    space = {LAMBDA: {"low": 0.0, "high": 4.0}, BETA: {"low": 0.01, "high": 5.0, "log": True}}
    ran = Simulated(tmp_path, config(search=search, space=space, trials=12), peak).run()
    assert all(value == round(value, 2) for value in points(ran))
    assert all(value == float(f"{value:.3g}") for value in points(ran, BETA))
    assert not Simulated(tmp_path, config(search=search, space=space, trials=12), peak).run()
    study = Study(config(search=search, space=space), tmp_path / "sweeps" / "t").study
    assert sorted(t.params[LAMBDA] for t in study.trials if t.values) == sorted(points(ran))  # each is there once


@pytest.mark.parametrize(
    ("value", "low", "high", "log", "expected"),
    [
        (2.6829, 0.0, 4.0, False, 2.68), (0.23456, 0.1, 1.0, False, 0.235), (1000.123, 1000.0, 1000.5, False, 1000.123),
        (0.0023456, 1e-4, 1.0, True, 0.00235), (0.123449, 0.1234, 1.0, True, 0.1234), (12345.0, 0.0, 1e5, False, 12000),
    ],
)  # fmt: skip
def test_rounding(value, low, high, log, expected):
    assert rounded(value, FloatDistribution(low, high, log=log)) == expected


def test_a_whole_range_is_searched_out_and_then_ends(tmp_path):
    space = {"align.negatives": {"low": 1, "high": 4}}
    ran = Simulated(tmp_path, config(search="tpe", space=space, trials=9)).run()
    assert sorted(points(ran, "align.negatives")) == [1, 2, 3, 4]


def test_tpe_looks_where_it_is_good(tmp_path):
    ran = Simulated(tmp_path, config(search="tpe", space=ANY_LAMBDA, trials=40), peak).run()
    late = points(ran)[20:]
    assert sum(abs(value - 1) < 0.7 for value in late) > 12  # 7 of 20 by chance


def test_a_five_point_grid_extended_to_seven_runs_two(tmp_path):
    Simulated(tmp_path, config(space={LAMBDA: (0, 0.5, 1, 2, 3)})).run()
    assert points(Simulated(tmp_path, config(space={LAMBDA: (0, 0.5, 1, 1.5, 2, 3, 4)})).run()) == [1.5, 4]


def test_another_seed_runs_that_seed_alone(tmp_path):
    Simulated(tmp_path, config(seeds=2)).run()
    assert [(trial.params[LAMBDA], trial.seed) for trial in Simulated(tmp_path, config(seeds=3)).run()] == [
        (2, 2), (0, 2), (1, 2),
    ]  # fmt: skip


def test_a_killed_session_repeats_no_finished_trial(tmp_path):
    killed = Simulated(tmp_path, config(seeds=2))
    killed.run(most=3)
    killed.start()  # and is gone while it runs
    again = Simulated(tmp_path, config(seeds=2)).run()
    assert len(again) == 3
    assert again[0].id == killed.ran[3].id
    assert not {trial.id for trial in again} & {trial.id for trial in killed.ran[:3]}


def test_a_killed_search_goes_on_with_the_setting_it_was_at(tmp_path):
    asked = config(search="tpe", space=ANY_LAMBDA, trials=6, seeds=2)
    killed = Simulated(tmp_path, asked, peak)
    killed.run(most=7)
    killed.start()
    again = Simulated(tmp_path, asked, peak)
    ran = again.run()
    assert ran[0].id == killed.ran[7].id
    assert len(killed.ran) - 1 + len(ran) == 6 * 2
    finished = again.study.study.get_trials(states=(TrialState.COMPLETE,))
    assert len({trial.params[LAMBDA] for trial in finished}) == len(finished) == 6


def test_adding_trials_keeps_what_was_found(tmp_path):
    asked = config(search="tpe", space=ANY_LAMBDA, trials=5)
    first = Simulated(tmp_path, asked, peak).run()
    more = Simulated(tmp_path, asked.model_copy(update={"trials": 8}), peak)
    assert len(more.run()) == 3
    assert not set(points(more.ran)) & set(points(first))


def test_a_wider_space_starts_from_what_was_found_in_the_narrower(tmp_path):
    Simulated(tmp_path, config(search="tpe", space={LAMBDA: (0, 1, 2)}, trials=3), peak).run()
    wider = Simulated(tmp_path, config(search="tpe", space={LAMBDA: (0, 1, 2, 3, 4)}, trials=5), peak)
    assert sorted(points(wider.run())) == [3, 4]
    assert len(wider.study.study.get_trials(states=(TrialState.COMPLETE,))) == 5


def test_a_lost_storage_is_filled_again_from_the_records(tmp_path):
    asked = config(search="tpe", space=ANY_LAMBDA, trials=5)
    Simulated(tmp_path, asked, peak).run()
    url = f"sqlite:///{tmp_path}/other.db"
    elsewhere = Simulated(tmp_path, asked, peak, storage=url)
    assert elsewhere.run() == []
    (study,) = optuna.get_all_study_names(url)
    assert len(optuna.load_study(study_name=study, storage=url).trials) == 5


def test_the_journal_is_a_study_that_optuna_alone_reads(tmp_path):
    """As optuna-dashboard opens it: nothing but the file and Optuna's own classes."""
    space = {LAMBDA: {"low": 0.0, "high": 4.0}, BETA: (0.1, 1.0)}
    session = Simulated(tmp_path, config(search="tpe", space=space, trials=6, seeds=2), peak)
    ran = session.run()
    storage = JournalStorage(JournalFileBackend(str(session.folder / "optuna.journal")))
    (study,) = optuna.get_all_study_summaries(storage)
    assert study.n_trials == 6
    found = optuna.load_study(study_name=study.study_name, storage=storage)
    assert found.direction.name == "MAXIMIZE"
    assert found.metric_names == ["exact_hr@1"]
    assert {trial.state for trial in found.trials} == {TrialState.COMPLETE}
    scored: dict[tuple[float, float], list[float]] = {}
    for trial in ran:
        scored.setdefault((trial.params[LAMBDA], trial.params[BETA]), []).append(peak(trial))
    told = {(trial.params[LAMBDA], trial.params[BETA]): trial.value for trial in found.trials}
    assert told == {setting: pytest.approx(sum(each) / 2) for setting, each in scored.items()}
    assert found.best_value == max(told.values())


def test_the_mean_over_seeds_is_what_the_study_is_told(tmp_path):
    session = Simulated(tmp_path, config(seeds=3), peak)
    session.run()
    told = {trial.params[LAMBDA]: trial.value for trial in session.study.study.trials}
    assert told == {2: pytest.approx(0.46), 0: pytest.approx(0.46), 1: pytest.approx(0.51)}


def test_two_metrics_make_a_pareto_front(tmp_path):
    asked = config(search="nsga2", space=ANY_LAMBDA, trials=6, metrics=("exact_hr@1", "valid_ratio"))
    session = Simulated(tmp_path, asked, peak)
    session.run()
    assert len(session.study.study.best_trials) == 6  # one gains what the other loses, so none is dominated
    assert session.study.study.metric_names == ["exact_hr@1", "valid_ratio"]


def test_failed_trials_are_tried_again_and_stop_no_other(tmp_path):
    session = Simulated(tmp_path, config())
    session.run(outcome=lambda trial: "failed" if trial.params[LAMBDA] == 0 else "done")
    assert [record["status"] for record in session.records] == ["done", "failed", "done"]
    assert points(Simulated(tmp_path, config()).run()) == [0]


def test_a_process_that_died_is_a_failed_trial(tmp_path):
    session = Simulated(tmp_path, config())
    session.run(most=1, outcome=lambda trial: "died")
    assert session.records[0]["status"] == "failed"
    assert "died" in session.records[0]["error"]


def test_a_pruned_setting_is_over_with_all_its_seeds(tmp_path):
    asked = config(search="random", space={LAMBDA: (0, 1, 2)}, trials=3, seeds=2, pruner="asha")
    session = Simulated(tmp_path, asked)
    session.run(outcome=lambda trial: "pruned" if trial.params[LAMBDA] == 2 else "done")
    assert points(session.ran).count(2) == 1
    assert len(session.ran) == 5
    assert len(session.study.study.get_trials(states=(TrialState.PRUNED,))) == 1
    assert Simulated(tmp_path, asked).run() == []
    assert points(Simulated(tmp_path, config(seeds=2)).run()) == [2, 2]  # a grid needs them whole


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {LAMBDA: {"low": 0, "high": 2}}}, "a grid needs lists"),
        ({"pruner": "asha"}, "a pruner cuts a grid's trials short"),
        ({"search": "tpe", "pruner": "median", "metrics": ("a", "b")}, "looks at one metric"),
        ({"space": {}}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        config(**changes)


def test_a_range_must_be_one():
    with pytest.raises(ValueError, match="less than high"):
        Range(low=2, high=1)
    with pytest.raises(ValueError, match="logarithmic"):
        Range(low=0, high=1, log=True)


def test_a_space_whose_end_is_refused_is_refused_before_anything_runs(tmp_path):
    asked = config(search="tpe", space={BETA: {"low": -1.0, "high": 1.0}})
    with pytest.raises(UserError, match="greater than 0"):
        Simulated(tmp_path, asked)


def test_pruners_need_validations():
    asked = SweepConfig.model_validate(config(search="tpe").model_dump() | {"pruner": "asha"})
    with pytest.raises(UserError, match="two validations"):
        scheduler(asked, TINY)
    assert type(scheduler(asked, changed(align__validations=4))).__name__ == "AsyncHyperBandScheduler"
    assert type(scheduler(config(), TINY)).__name__ == "FIFOScheduler"


def test_tune_is_told_the_setting_itself(tmp_path):
    asked = Simulated(tmp_path, config()).start()
    assert asked["lambda"] == 2
    assert asked["seed"] == 0
    assert str(asked["trial"]) == "recpo λ=2 seed=0"
    rates = config(space={"sft.learning_rate": (1e-3, 1e-4), "align.learning_rate": (1e-4,), LAMBDA: (1,)})
    asked = Simulated(tmp_path / "rates", rates).start()
    assert set(asked) == {"sft.learning_rate", "align.learning_rate", "lambda", "seed", "trial"}


def test_a_trial_waits_for_one_that_makes_a_stage_which_both_need(tmp_path):
    """Only of a search: what a grid needs is made before its trials."""
    session = Simulated(tmp_path, config(seeds=2))
    session.start()
    assert session.queue.suggest("waits") is None
    session.end()  # it may have failed to make it: the next one tries
    assert session.start()["seed"] == 0
    for stage in session.ran[-1].chain.shared:
        folder = session.store.path(stage.address)
        folder.mkdir(parents=True)
        (folder / "_SUCCESS").write_text("{}")
    assert session.queue.suggest("goes")["seed"] == 0
