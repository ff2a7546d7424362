"""`raypref recommend` and `raypref rescore` on a tiny run."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from raypref.commands.recommend import DESCRIPTION, recommend
from raypref.commands.recommendation import answer, of_lines, of_user
from raypref.commands.rescore import rescore
from raypref.config import RunConfig
from raypref.config.loading import dump, load, override
from raypref.errors import UserError
from raypref.results.collect import collect
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.prepare import titles_of, train_counts
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from raypref.sweeps.methods import method_changes

TINY = RunConfig.model_validate(
    {
        "name": "t",
        "data": {
            "source": {"kind": "generated", "users": 60, "items": 80, "mean_length": 12},
            "k_core": 2,
            "max_train_examples_per_user": 2,
            "candidates": {"train_future": 4, "train_random": 4, "eval_random": 7},
        },
        "prompt": {"templates": 1},
        "model": {
            "kind": "scratch", "hidden_size": 16, "layers": 1, "heads": 2, "key_value_heads": 2,
            "intermediate_size": 16, "vocabulary": 400,
        },
        "sft": {"learning_rate": 3e-3, "global_batch": 16, "max_steps": 2, "validations": 0, "keep": "last"},
        "align": {"global_batch": 16, "max_steps": 2, "validations": 0, "keep": "last"},
        "baseline": {"recommender": "popularity"},
        "expert": {"dimension": 8, "epochs": 1, "l2": [1e-6]},
        "evaluation": {"generate": False, "splits": ["test", "aversion"]},
        "resources": {"engine": "torch", "threads": 1},
    }
)  # fmt: skip


METHODS = ("sdpo", "popularity", "zero-shot", "tallrec", "llara")
ELSEWHERE = ["--system", "zero-shot", "--transfer-dataset", "generated", "--transfer.source.seed", "7"]


def elsewhere() -> RunConfig:
    """What ELSEWHERE makes of TINY."""
    content = dump(TINY)
    source = content["data"]["source"] | {"seed": 7}
    return RunConfig.model_validate(content | {"system": "zero-shot", "transfer": content["data"] | {"source": source}})


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Store]:
    folder = tmp_path_factory.mktemp("root")
    store = Store(folder)
    plans = [chain(override(TINY, method_changes(name, TINY), "test")) for name in METHODS]
    for plan in [*plans, chain(elsewhere())]:
        for stage in plan:
            if not store.done(stage.address):
                InProcess(store)(plan, stage)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(dump(TINY)))
    return ["--root", str(folder), "--config", str(folder / "tiny.yaml")], store


def test_a_user_s_candidates_are_ranked_by_probability(
    here: tuple[list[str], Store], capsys: pytest.CaptureFixture[str]
) -> None:
    options, store = here
    prepared = store.path(chain(TINY).prepare.address)
    user = pq.read_table(prepared / "users.parquet")["user_id"][5].as_py()
    assert recommend([*options, "--by", "sdpo", "--user", user, "--among", "candidates"]) == 0
    shown = capsys.readouterr().out
    question, titles = of_user(prepared, user), titles_of(prepared)
    assert all(titles[item] in shown for item in question.candidates)
    assert shown.count("<- came next") == 1
    shares = [float(line.split("│")[-2]) for line in shown.splitlines() if line.startswith("│")]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.01)


def examples_of_help() -> list[tuple[str, list[str]]]:
    """Standard input and arguments of each command that the help shows."""
    found = []
    for line in DESCRIPTION.splitlines():
        before, command, after = line.partition("raypref recommend ")
        if command:
            typed = shlex.split(before)[1].replace("\\n", "\n") if "printf" in before else ""
            found.append((typed, shlex.split(after, comments=True)))
    return found


def test_the_examples_of_its_help_run(
    here: tuple[list[str], Store],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here on a tiny run; of the default run's data the users and titles that they name are looked for."""
    examples = examples_of_help()
    assert len(examples) == 4
    default, store = chain(load("tiny", None)[0]), Store(tmp_path)
    InProcess(store)(default, default.prepare)
    prepared = store.path(default.prepare.address)
    for typed, arguments in examples:
        if typed:
            assert len(of_lines(typed.splitlines(), titles_of(prepared), 5, 0, 9, prepared).history) == 2
        else:
            assert of_user(prepared, arguments[arguments.index("--user") + 1]).candidates
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        method = [] if "--by" in arguments else ["--by", "sdpo"]
        assert recommend([*here[0], *arguments, *method]) == 0
        assert "probability" in capsys.readouterr().out


@pytest.mark.parametrize("name", METHODS)
def test_its_probabilities_are_those_of_the_evaluation(here: tuple[list[str], Store], name: str) -> None:
    _, store = here
    plan = chain(override(TINY, method_changes(name, TINY), "test"))
    rows = pq.read_table(store.path(plan.evaluate.address) / "rows.parquet")
    prepared = store.path(plan.prepare.address)
    users = pq.read_table(prepared / "users.parquet").to_pydict()
    ids = dict(zip(users["user"], users["user_id"]))
    for row in [r for r in rows.to_pylist() if r["split"] == "test"][:3]:
        question = of_user(prepared, ids[row["user"]])
        expected = np.exp(np.array(row["logps"], dtype=np.float64) - np.max(row["logps"]))
        found = answer(plan, store, question).shares
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-3, atol=1e-6)
        assert question.target == row["target_item"]


@pytest.mark.parametrize("name", METHODS)
def test_the_whole_catalog_is_the_default(
    here: tuple[list[str], Store], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was met is left out, and the first of all are shown, as scoring each would have them."""
    options, store = here
    plan = chain(override(TINY, method_changes(name, TINY), "test"))
    prepared = store.path(plan.prepare.address)
    user = pq.read_table(prepared / "users.parquet")["user_id"][7].as_py()
    assert recommend([*options, "--by", name, "--user", user, "--top", "6"]) == 0
    shown, titles = capsys.readouterr().out, titles_of(prepared)
    asked, listed = of_user(prepared, user, whole=True), of_user(prepared, user)
    assert not set(asked.candidates) & set(asked.history)
    assert set(listed.candidates) <= set(asked.candidates)
    assert asked.target == listed.target
    lines = [line for line in shown.splitlines() if line.startswith("│")]
    found = answer(plan, store, asked, len(asked.candidates)).shares  # every one of them
    assert (found > 0).all()
    order = np.argsort(-found, kind="stable")[:6]
    assert [line.split("│")[2].split("  <-")[0].strip() for line in lines] == [
        titles[asked.candidates[i]] for i in order
    ]
    few = answer(plan, store, asked, 6).shares
    np.testing.assert_allclose(few[order], found[order], rtol=1e-4)
    said = [line.removeprefix("generated from the titles alone: ") for line in shown.splitlines()
            if line.startswith("generated from")]  # fmt: skip
    assert len(said) == (name in ("sdpo", "zero-shot", "llara"))
    assert set(said) <= {titles[i] for i in asked.candidates}


def test_options_that_contradict_each_other_are_refused(here: tuple[list[str], Store]) -> None:
    with pytest.raises(UserError, match="not a list of so many items"):
        recommend([*here[0], "--user", "u1", "--candidates", "4"])
    with pytest.raises(UserError, match="0 items are none"):
        recommend([*here[0], "--user", "u1", "--top", "0"])


def test_of_another_data_set_its_own_users_and_items_are_asked_for(
    here: tuple[list[str], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, store = here
    plan = chain(elsewhere())
    prepared = plan.evaluate.input_paths(store)["prepare"]
    rows = pq.read_table(store.path(plan.evaluate.address) / "rows.parquet").to_pylist()
    row = next(r for r in rows if r["split"] == "test")
    users = pq.read_table(prepared / "users.parquet").to_pydict()
    user = dict(zip(users["user"], users["user_id"]))[row["user"]]
    assert of_user(prepared, user).candidates == row["candidates"]
    assert recommend([*options, *ELSEWHERE, "--user", user, "--among", "candidates"]) == 0
    shown, titles = capsys.readouterr().out, titles_of(prepared)
    assert all(titles[item] in shown for item in row["candidates"])
    assert rescore([*options, *ELSEWHERE, "--pairs", str(tmp_path / "pairs.parquet")]) == 0
    pairs = pd.read_parquet(tmp_path / "pairs.parquet")
    items = pq.read_table(prepared / "items.parquet").to_pydict()
    wanted = {dict(zip(items["item"], items["item_id"]))[item] for item in row["candidates"]}
    assert wanted <= set(pairs["item"][pairs["user"] == user])


def test_without_a_history_there_is_a_ranking_too(
    here: tuple[list[str], Store], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in METHODS:
        monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
        assert recommend([*here[0], "--by", name, "--history", "-", "--among", "candidates", "--candidates", "4"]) == 0
        shown = capsys.readouterr().out
        assert "(no history)" in shown
        assert len([line for line in shown.splitlines() if line.startswith("│")]) == 4


def test_a_typed_history(
    here: tuple[list[str], Store], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options, store = here
    titles = titles_of(store.path(chain(TINY).prepare.address))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{titles[3]} | 5\n\n{titles[7]}\n"))
    assert (
        recommend([*options, "--by", "popularity", "--history", "-", "--among", "candidates", "--candidates", "4"]) == 0
    )
    shown = capsys.readouterr().out
    assert f"after {titles[3]}, {titles[7]}" in shown
    assert len([line for line in shown.splitlines() if line.startswith("│")]) == 4


def test_typed_lines() -> None:
    titles = ["Red Hill", "Blue Lake", "A | B", "Gold Road"]
    asked = of_lines(["Red Hill | 4.5", "A | B", " Gold Road "], titles, 1, 0, 9, Path())
    assert asked.history == [0, 2, 3]
    assert asked.ratings[0] == 4.5
    assert np.isnan(asked.ratings[1:]).all()
    assert asked.candidates == [1]
    cut = of_lines(["Red Hill | 4.5", "A | B", " Gold Road | 2"], titles, 1, 0, 2, Path())
    assert (cut.history, cut.ratings[1], cut.candidates) == ([2, 3], 2.0, [1])  # the first is no candidate either
    for lines, count, complaint in (
        (["Red Hil"], 1, "did you mean: Red Hill"),
        (["Red Hill | 7"], 1, "'7' is no rating"),
        (["Red Hill"], 4, "4 candidates of 3 unseen items"),
    ):
        with pytest.raises(UserError) as caught:
            of_lines(lines, titles, count, 0, 9, Path())
        assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "whom to recommend to"),
        (["--user", "nobody"], "no user has the id 'nobody'"),
        (["--user", "1", "--by", "sasrek"], "no method is called 'sasrek'"),
        (["--user", "1", "--by", "sft", "--sft.seed", "9"], "this run has no model yet"),
        (["--user", "1", "--by", "chatrec"], "a chat model gives no probabilities"),
        (["--history", "nowhere.txt"], "the history can't be read"),
        (["--history", "latin1.txt"], "the history is no UTF-8 text (byte 3)"),
        (["--user", "u0000003", "--prompt-to", "p.txt"], "reads no prompt"),
        (["--user", "u0000003", "--by", "llara", "--prompt-to", "p.txt"], "reads no prompt"),
        (["--user", "u0000003", "--by", "tallrec", "--prompt-to", "p.txt"], "reads no prompt"),
    ],
)
def test_mistakes_of_recommend(
    here: tuple[list[str], Store],
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1.txt").write_bytes("Amélie\n".encode("latin-1"))
    with pytest.raises(UserError) as caught:
        recommend([*here[0], "--by", "popularity", *arguments] if "--by" not in arguments else [*here[0], *arguments])
    assert complaint in str(caught.value)


def test_popularity_s_own_counts_rescore_as_popularity(here: tuple[list[str], Store], tmp_path: Path) -> None:
    options, store = here
    plan = chain(override(TINY, method_changes("popularity", TINY), "test"))
    prepared = store.path(plan.prepare.address)
    assert rescore([*options, "--pairs", str(tmp_path / "pairs.parquet")]) == 0
    pairs = pd.read_parquet(tmp_path / "pairs.parquet")
    items = pq.read_table(prepared / "items.parquet").to_pydict()
    counts = dict(zip(items["item_id"], train_counts(prepared)))
    pairs.assign(score=[counts[i] for i in pairs["item"]]).to_parquet(tmp_path / "scores.parquet")
    folder = sweep_of(plan, store, "fame")
    found = ["--scores", str(tmp_path / "scores.parquet"), "--called", "fame", "--table", str(folder)]
    assert rescore([*options, *found]) == 0
    (record,) = outside(folder)
    assert record["params"] == {"method": "fame"}
    ours = pq.read_table(store.path(plan.evaluate.address) / "rows.parquet")
    theirs = pq.read_table(store.root / record["evaluate"] / "rows.parquet")
    order = [("split", "ascending"), ("example", "ascending")]
    assert theirs.sort_by(order).equals(ours.sort_by(order))
    mean = collect(folder).metrics.set_index(["method", "split", "metric"])["value"]
    assert mean["fame", "test", "exact_hr@1"] == mean["popularity", "test", "exact_hr@1"]


def sweep_of(plan: Chain, store: Store, name: str) -> Path:
    """A benchmark's folder with one trial."""
    folder = store.root / "sweeps" / f"benchmark-{name}"
    (folder / "trials").mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"space": {"method": ["popularity"]}}))
    done = {"params": {"method": "popularity"}, "seed": 0, "status": "done", "evaluate": str(plan.evaluate.address)}
    (folder / "trials" / "one.json").write_text(json.dumps(done))
    return folder


def outside(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(path.read_text()) for path in (folder / "trials").glob("*.json")]
    return [record for record in records if record.get("outside")]


def test_new_scores_replace_a_system_s_old_ones(here: tuple[list[str], Store], tmp_path: Path) -> None:
    options, store = here
    folder = sweep_of(chain(override(TINY, method_changes("popularity", TINY), "test")), store, "again")
    rescore([*options, "--pairs", str(tmp_path / "pairs.parquet")])
    pairs = pd.read_parquet(tmp_path / "pairs.parquet")
    for seed in (2, 1):  # the second one's record sorts before the first one's as often as not
        scores = np.random.default_rng(seed).random(len(pairs))
        pairs.assign(score=scores).to_parquet(tmp_path / "scores.parquet")
        found = ["--scores", str(tmp_path / "scores.parquet"), "--called", "mine", "--table", str(folder)]
        assert rescore([*options, *found]) == 0
        for path in (folder / "trials").glob("*.json"):
            record = json.loads(path.read_text())
            if seed == 2 and record.get("outside"):
                path.write_text(json.dumps(record | {"ended": "2020-01-01T00:00:00+00:00"}))
    trials = collect(folder).trials.set_index("status")
    assert trials.loc["superseded", "ended"].startswith("2020")
    assert sorted(trials.loc["done", "method"]) == ["mine", "popularity"]


def test_what_a_table_refuses(here: tuple[list[str], Store], tmp_path: Path) -> None:
    options, store = here
    plan = chain(override(TINY, method_changes("popularity", TINY), "test"))
    folder = sweep_of(plan, store, "refusing")
    rescore([*options, "--pairs", str(tmp_path / "pairs.parquet")])
    pd.read_parquet(tmp_path / "pairs.parquet").assign(score=1.0).to_parquet(tmp_path / "scores.parquet")
    other = store.root / "sweeps" / "lambda"
    other.mkdir()
    (other / "sweep.json").write_text(json.dumps({"space": {"align.objective.lambda": [0, 1]}}))
    away = tmp_path / "sweeps" / "benchmark"
    shutil.copytree(folder, away)
    elsewhere_too = sweep_of(chain(elsewhere()), store, "elsewhere")
    for table, called, complaint in (
        (folder, "popularity", "has a method popularity already"),
        (folder, "a/b", "is no name"),
        (tmp_path, "mine", "no sweep lies there"),
        (other, "mine", "does not compare methods"),
        (away, "mine", "belongs to another root"),
        (elsewhere_too, "mine", "is of other examples"),
    ):
        with pytest.raises(UserError, match=complaint):
            rescore([*options, "--scores", str(tmp_path / "scores.parquet"), "--called", called, "--table", str(table)])
        assert not outside(folder)
    with pytest.raises(UserError, match="no example of cold-user"):
        rescore([*options, "--pairs", str(tmp_path / "p.parquet"), "--evaluation.splits", "cold-user"])
    assert rescore([*options, "--scores", str(tmp_path / "scores.parquet"), "--evaluation.splits", "aversion"]) == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f: f.iloc[1:], "have no score"),
        (lambda f: f.drop(columns="score"), "columns are missing: score"),
        (lambda f: pd.concat([f, f.iloc[:2]]), "2 pairs have two scores"),
        (lambda f: f.assign(score="x"), "some scores are no numbers"),
    ],
)
def test_mistakes_of_rescore(here: tuple[list[str], Store], tmp_path: Path, change: object, complaint: str) -> None:
    rescore([*here[0], "--pairs", str(tmp_path / "pairs.parquet")])
    frame = pd.read_parquet(tmp_path / "pairs.parquet").assign(score=1.0)
    change(frame).to_parquet(tmp_path / "scores.parquet")  # type: ignore[operator]
    with pytest.raises(UserError) as caught:
        rescore([*here[0], "--scores", str(tmp_path / "scores.parquet")])
    assert complaint in str(caught.value)


def test_users_that_a_hint_names_can_be_asked_about(here: tuple[list[str], Store]) -> None:
    prepared = min(here[1].root.glob("prepare/*"))
    with pytest.raises(UserError) as refused:
        of_user(prepared, "nobody")
    named = refused.value.hint.removeprefix("e.g. ").split(", ")
    assert len(named) == 3
    assert all(of_user(prepared, name).candidates for name in named)
