"""Every figure by its table: cost, Pareto front, importance; drawn again from the collected tables; several sweeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import fs

from raypref.commands.collect import collect as collect_command
from raypref.commands.collect import plot
from raypref.errors import UserError
from raypref.results import conclusion
from raypref.results.collect import collect, load, write
from raypref.results.compare_sweeps import (
    all_trials,
    drawings_of,
    series_figure,
    series_names,
    series_table,
    write_together,
)
from raypref.results.curves import cost_table
from raypref.results.figures import drawings
from raypref.results.multi_objective import importance_table, joint_table, undominated
from raypref.results.report import report_html
from raypref.results.training_curves import training_table
from raypref.storage.location import Location
from tests.support.planted_sweeps import LAMBDA, sweep

K = "align.negatives"


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """λ decides everything, K nothing; both objectives vary with λ, in opposite directions."""
    root = tmp_path_factory.mktemp("joint")
    space = {LAMBDA: [0, 1, 2, 3, 4], K: [1, 2, 3, 4]}
    folder = sweep(root, space, {LAMBDA: 2, K: 3}, lambda p, seed: 0.1 + 0.15 * p[LAMBDA], seeds=1, users=200)
    account = json.loads((folder / "sweep.json").read_text()) | {"metrics": ["exact_hr@1", "valid_ratio"]}
    (folder / "sweep.json").write_text(json.dumps(account))
    return folder


def test_undominated():
    values = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.4, 0.5], [1, 0]])
    assert undominated(values).tolist() == [True, True, True, False, True]


def test_the_pareto_front_is_that_of_the_validation_means(joint):
    found = collect(joint)
    table = joint_table(found)
    assert len(table) == 20
    assert set(table["split"]) == {"validation"}
    means = found.metrics[found.metrics["split"] == "validation"].pivot(index="trial", columns="metric", values="value")
    best = means["exact_hr@1"].max()
    assert table.loc[table["pareto"], "exact_hr@1"].max() == pytest.approx(best)
    assert table["pareto"].any()
    assert not table["pareto"].all()


def test_the_key_that_decides_is_the_important_one(joint):
    table = importance_table(collect(joint)).query("metric == 'exact_hr@1'").set_index("parameter")["importance"]
    assert table.sum() == pytest.approx(1)
    assert table[LAMBDA] > 0.7


def test_a_joint_sweep_has_its_figures(joint):
    names = [drawing.name for drawing in drawings(collect(joint))]
    assert names == [
        "curve-lambda", "cost-lambda", "curve-negatives", "cost-negatives", "pareto", "importance", "parallel",
    ]  # fmt: skip


def test_cost_is_of_the_trials(tmp_path):
    folder = sweep(tmp_path, {K: [1, 3]}, {K: 3}, lambda p, seed: 0.3, seeds=2, users=20)
    for path in (folder / "trials").glob("*.json"):
        content = json.loads(path.read_text())
        seconds = 10.0 * content["params"][K] + content["seed"]
        path.write_text(json.dumps(content | {"train_seconds": seconds, "peak_memory_gb": None}))
    table = cost_table(collect(folder), K)
    assert set(table["metric"]) == {"train_seconds"}  # nobody measured memory
    assert dict(zip(table["value"], table["mean"])) == {1: 10.5, 3: 30.5}
    assert table["points"].tolist() == [[10, 11], [30, 31]]
    assert table.loc[table["default"], "value"].tolist() == [3]


def test_one_figure_shows_quality_and_cost_together(tmp_path):
    """What a higher K buys and what it costs, as NAPO's figures 1a and 3c: HR@1, seconds and GB side by side."""
    rate = {1: 0.2, 3: 0.4, 7: 0.6}
    folder = sweep(tmp_path, {K: list(rate)}, {K: 3}, lambda p, seed: rate[p[K]], seeds=2, users=200)
    for path in (folder / "trials").glob("*.json"):
        content = json.loads(path.read_text())
        spent = {"train_seconds": 10.0 * content["params"][K], "peak_memory_gb": 1.0 + content["params"][K] / 10}
        path.write_text(json.dumps(content | spent))
    found = collect(folder)
    (drawing,) = (drawing for drawing in drawings(found) if drawing.name == "cost-negatives")
    table = drawing.table
    assert table["metric"].unique().tolist() == ["generated_hr@1", "train_seconds", "peak_memory_gb"]
    mine = table[~table["sft"].astype(bool)].pivot(index="value", columns="metric", values="mean")
    test = found.metrics[(found.metrics["metric"] == "generated_hr@1") & (found.metrics["split"] == "test")]
    assert mine["generated_hr@1"].to_dict() == pytest.approx(test.groupby(K)["value"].mean().to_dict())
    assert mine["train_seconds"].to_dict() == {1: 10, 3: 30, 7: 70}
    assert mine["peak_memory_gb"].to_dict() == pytest.approx({1: 1.1, 3: 1.3, 7: 1.7})
    assert table.loc[table["sft"].astype(bool), "metric"].tolist() == ["generated_hr@1"]  # the model they started from
    figure = drawing.make(table, "")
    assert [ax.get_ylabel() for ax in figure.axes] == ["HR@1", "training time (s)", "peak memory (GB)"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["$K$"] * 3
    assert "HR@1 against K: " in drawing.describe(table)


def test_words_stand_in_one_order_beside_their_cost(tmp_path):
    name, rate = "align.objective.name", {"dpo": 0.2, "recpo": 0.6}
    folder = sweep(tmp_path, {name: list(rate)}, {}, lambda p, seed: rate[p[name]], seeds=1, users=100)
    (drawing,) = (drawing for drawing in drawings(collect(folder)) if drawing.name == "cost-name")
    words = drawing.table[~drawing.table["sft"].astype(bool)].groupby("metric", sort=False)["value"].agg(list)
    assert words["generated_hr@1"] == words["train_seconds"] == words["peak_memory_gb"] == ["recpo", "dpo"]


def test_no_figure_of_cost_where_nobody_measured_it(tmp_path):
    folder = sweep(tmp_path, {K: [1, 3]}, {K: 3}, lambda p, seed: 0.3, seeds=1, users=20)
    for path in (folder / "trials").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"train_seconds": None, "peak_memory_gb": None}))
    assert [drawing.name for drawing in drawings(collect(folder))] == ["curve-negatives"]


def test_plot_draws_every_figure_from_the_collected_tables_alone(joint, tmp_path):
    found = collect(joint)
    write(found, tmp_path / "tables")
    again = drawings(load(tmp_path / "tables"))
    for first, second in zip(drawings(found), again, strict=True):
        pd.testing.assert_frame_equal(first.table, second.table)
    assert plot(tmp_path / "tables", out=tmp_path / "drawn", formats=("svg",)) == 0
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {
        f"{drawing.name}.{kind}" for drawing in again for kind in ("svg", "csv")
    }


def test_the_report_says_every_figure_in_words(joint):
    text = report_html(collect(joint))
    assert text.count('<svg role="img" aria-label="') >= 10
    assert "undominated" in text
    assert "Share of importance" in text


def other(root, name, method, rate, **account):
    folder = sweep(root, {LAMBDA: [0, 1, 2]}, {LAMBDA: 2}, lambda p, seed: rate, seeds=2, users=30)
    told(folder, name=name, method=method, **account)
    return folder


def told(folder, **account):
    """Change a sweep's account."""
    path = folder / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | account))


def test_several_sweeps_make_one_table_and_shared_curves(tmp_path):
    folders = [other(tmp_path / m, f"s-{m}", m, rate) for m, rate in (("recpo", 0.2), ("dpo", 0.6))]
    broken = sorted((folders[1] / "trials").glob("*.json"))[0]
    broken.write_text("{")
    found = [collect(folder) for folder in folders]
    table = all_trials(found)
    assert set(table["method"]) == {"recpo", "dpo"}
    assert table.groupby("sweep")["trial"].nunique().to_dict() == {"s-dpo": 7, "s-recpo": 7}
    assert table.loc[table["status"] == "unreadable", "metric"].isna().all()
    curves = series_table(found, LAMBDA).query("metric == 'exact_hr@1'").groupby("series")["mean"].mean()
    assert curves["dpo on generated"] > curves["recpo on generated"] + 0.2
    names = {path.name for path in write_together(found, tmp_path / "all")}
    assert {"all.parquet", "all.csv", "all-lambda.svg", "all-lambda.csv"} <= names
    assert collect_command((str(folders[0]), str(folders[1])), out=tmp_path / "cli") == 3  # one is unreadable
    assert (tmp_path / "cli" / "all.parquet").is_file()


def test_methods_of_several_sweeps_stand_below_each_other(tmp_path):
    name, found = "align.objective.name", []
    for number, dataset in enumerate(("one", "two")):
        folder = sweep(tmp_path / dataset, {name: ["dpo", "recpo"]}, {name: "recpo"}, lambda p, s: 0.3, 1, 20, number)
        account = json.loads((folder / "sweep.json").read_text()) | {"dataset": dataset, "method": None}
        (folder / "sweep.json").write_text(json.dumps(account))
        found.append(collect(folder))
    figure = series_figure(series_table(found, name))
    assert {tick.get_text() for tick in figure.axes[0].get_yticklabels()} == {"dpo", "recpo"}
    assert figure.axes[0].get_xlabel() == "HR@1"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_plot_draws_what_several_sweeps_share_from_their_folder_alone(tmp_path, capsys, monkeypatch):
    """Both keys: one with numbers, one with words. What each sweep shows by itself is drawn elsewhere."""
    monkeypatch.setattr(conclusion, "tell", lambda *_: True)
    method = "align.objective.name"
    folders = [other(tmp_path / m, f"s-{m}", m, rate) for m, rate in (("recpo", 0.2), ("dpo", 0.6))]
    for number, dataset in enumerate(("one", "two")):
        folder = sweep(tmp_path / dataset, {method: ["dpo", "recpo"]}, {}, lambda p, s: 0.3, 1, 20, number)
        told(folder, name=dataset, dataset=dataset, method=None)
        folders.append(folder)
    for number, folder in enumerate(folders):  # all four are called alike, and a folder of their own each is needed
        folders[number] = folder.rename(folder.with_name(f"sweep-{number}"))
    out = tmp_path / "out"
    assert collect_command(tuple(map(str, folders)), out=out) == 0
    made = {path.name for path in out.glob("all-*") if path.suffix != ".parquet"}
    assert made == {f"all-{key}.{kind}" for key in ("lambda", "name") for kind in ("png", "svg", "pdf", "csv")}
    expected = series_table([collect(folder) for folder in folders], method)
    first = {path.name: path.read_bytes() for path in out.glob("all-*.[sc][vs][gv]")}
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("all.parquet", "all-curves.parquet"):
        (out / name).rename(alone / name)
    for folder in [*folders, out]:
        shutil.rmtree(folder)
    capsys.readouterr()
    assert plot(alone, formats=("svg",)) == 0
    assert {Path(line).name for line in capsys.readouterr().out.split()} == set(first)
    tables = {name: content for name, content in first.items() if name.endswith(".csv")}
    assert {name: (alone / name).read_bytes() for name in tables} == tables
    words = next(drawing.table for drawing in drawings_of(alone) if drawing.name == "all-name")
    pd.testing.assert_frame_equal(words, expected)


def test_sweeps_that_share_no_key_leave_nothing_to_draw(tmp_path, capsys):
    folders = [sweep(tmp_path / k, {k: [0, 1]}, {}, lambda p, s: 0.3, 1, 20) for k in ("align.a", "align.b")]
    assert write_together([collect(folder) for folder in folders], tmp_path / "all")
    capsys.readouterr()
    assert plot(tmp_path / "all") == 0
    assert "nothing to draw" in capsys.readouterr().out


def test_plot_refuses_a_folder_that_holds_neither(tmp_path):
    with pytest.raises(UserError, match="no collected results"):
        plot(tmp_path)
    (tmp_path / "all-curves.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="curves can't be read"):
        plot(tmp_path)


def test_series_are_named_by_what_tells_their_sweeps_apart(tmp_path):
    """By the preset, the sweep's name, another key of the config, or a number; each is a line of its own."""
    tiny, smoke = {"name": "tiny", "align": {"lr": 1e-4}}, {"name": "smoke", "align": {"lr": 1e-4}}
    slow = {"name": "tiny", "align": {"lr": 1e-5}}

    def named(**sweeps):
        folders = [
            other(tmp_path / f"{case}-{number}", method=method, rate=0.1 + number / 10, config=config, **account)
            for case in sweeps
            for number, (method, config, account) in enumerate(sweeps[case])
        ]
        return [collect(folder) for folder in folders]

    found = named(a=[("recpo", tiny, {"name": "s"}), ("recpo", smoke, {"name": "s"}), ("dpo", tiny, {"name": "s"})])
    assert series_names(found) == ["recpo on generated, tiny", "recpo on generated, smoke", "dpo on generated"]
    table = series_table(found, LAMBDA).query("metric == 'exact_hr@1'")
    assert table.groupby("series").size().tolist() == [3, 3, 3]
    lines = [line for line in series_figure(table).axes[0].get_lines() if len(line.get_xdata()) == 3]
    assert {tuple(line.get_xdata()) for line in lines} == {(0, 1, 2)}  # no zigzag
    assert all_trials(found).groupby("series")["trial"].nunique().tolist() == [7, 7, 7]
    found = named(b=[("recpo", tiny, {"name": "sweep_lambda"}), ("recpo", tiny, {"name": "mine"})])
    assert series_names(found) == ["recpo on generated, sweep_lambda", "recpo on generated, mine"]
    found = named(c=[("recpo", tiny, {"name": "s"}), ("recpo", slow, {"name": "s"})])
    assert series_names(found) == ["recpo on generated, lr=0.0001", "recpo on generated, lr=1e-05"]
    assert series_names([found[0], found[0]]) == ["recpo on generated, 1", "recpo on generated, 2"]


def test_results_in_an_object_store_are_read_through_pyarrow(tmp_path):
    """A file system that is not the local one: a subtree of it, as a bucket would be."""
    folder = sweep(
        tmp_path / "bucket", {LAMBDA: [0, 1]}, {LAMBDA: 1}, lambda p, seed: 0.3, seeds=1, users=20, logs=True
    )
    bucket = Location(fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem()), f"sweeps/{folder.name}")
    assert bucket.local is None
    there, here = collect(bucket), collect(folder)
    pd.testing.assert_frame_equal(there.metrics, here.metrics)
    assert len(training_table(there)) == len(training_table(here)) > 0
    uri = f"file://{folder}"
    pd.testing.assert_frame_equal(collect(uri).metrics, here.metrics)


def test_a_store_that_pyarrow_does_not_know():
    with pytest.raises(UserError, match="store can't be opened"):
        collect("nosuch://bucket/sweeps/x")


def test_pruned_trials_are_listed_and_not_compared(tmp_path):
    folder = sweep(tmp_path, {LAMBDA: [0, 1, 2]}, {LAMBDA: 2}, lambda p, seed: 0.3, seeds=1, users=20)
    path = sorted((folder / "trials").glob("*.json"))[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "pruned", "error": "stopped"}))
    found = collect(folder)
    assert found.trials["status"].tolist().count("pruned") == 1
    assert len(found.done) == 2
