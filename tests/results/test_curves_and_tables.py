"""Curves by their tables, comparison tables by planted effects, answers by their words."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from raypref.errors import UserError
from raypref.results.answer import answer, best_setting
from raypref.results.collect import collect, load, write
from raypref.results.curves import alt_text, curve_figure, curve_table
from raypref.results.figures import Drawing
from raypref.results.labels import math_symbol, metric_label, setting_text, symbol, value_text
from raypref.results.multi_objective import joint_table
from raypref.results.render import latex, markdown, rich_table
from raypref.results.summaries import comparisons, settings, summary
from raypref.results.tables import comparison_table, footnotes, generation_notes, sweep_cells
from tests.support.planted_sweeps import LAMBDA, evaluation, rows, scored, sweep

ALPHA, K = "align.objective.alpha", "align.negatives"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    rate = {0: 0.2, 2: 0.7, 10: 0.25}
    folder = sweep(root, {LAMBDA: [0, 2, 10]}, {LAMBDA: 2.0}, lambda p, seed: rate[p[LAMBDA]], users=150)
    return collect(folder)


def planted(rng, rates, seeds=3, users=150, drift=0.03):
    """Hits of settings that differ by `rates` alone: users of unequal difficulty, seeds that drift."""
    ease = rng.normal(0, 0.15, users)
    return {
        (float(value), seed): (rng.random(users) < rate + ease + rng.normal(0, drift)).astype(float)
        for value, rate in enumerate(rates)
        for seed in range(seeds)
    }


def test_curve_table_is_what_the_trials_say(finished):
    table = curve_table(finished, LAMBDA, ("generated_hr@1", "valid_ratio"))
    assert table["metric"].tolist() == ["generated_hr@1"] * 4 + ["valid_ratio"] * 4
    assert table["value"].tolist()[:3] == [0, 2, 10]
    assert table["default"].tolist()[:4] == [False, True, False, False]
    assert table["sft"].tolist()[:4] == [False, False, False, True]
    assert set(table["symbol"]) == {"λ"}
    scores = finished.metrics.query("split == 'test' and metric == 'generated_hr@1' and trial != 'sft'")
    for row in table[(table["metric"] == "generated_hr@1") & ~table["sft"]].to_dict("records"):
        seeds = scores[scores[LAMBDA] == row["value"]]["value"].to_numpy()
        half = 4.302653 * seeds.std(ddof=1) / np.sqrt(3)
        assert row["points"] == pytest.approx(seeds)
        assert (row["mean"], row["seeds"], row["over"]) == (pytest.approx(seeds.mean()), 3, "seeds")
        assert (row["low"], row["high"]) == pytest.approx((max(seeds.mean() - half, 0), min(seeds.mean() + half, 1)))
    sft = table[table["sft"]].iloc[0]
    assert sft["over"] == "users"
    assert sft["low"] < sft["mean"] < sft["high"]


def test_curve_can_be_redrawn_from_what_was_collected(finished, tmp_path):
    write(finished, tmp_path)
    table = curve_table(load(tmp_path), LAMBDA)
    assert table.equals(curve_table(finished, LAMBDA))


def test_one_seed_shows_the_interval_over_users():
    found = curve_table(scored(planted(np.random.default_rng(0), [0.3, 0.4], seeds=1), 0), LAMBDA, ("exact_hr@1",))
    assert set(found["over"]) == {"users"}
    assert (found["high"] > found["low"]).all()


def test_other_keys_stay_at_their_default(tmp_path):
    space = {LAMBDA: [0, 1], ALPHA: [0.25, 0.5]}
    folder = sweep(tmp_path, space, {LAMBDA: 1, ALPHA: 0.5}, lambda p, seed: 0.2 + p[ALPHA], seeds=2, users=60)
    found = collect(folder)
    table = curve_table(found, LAMBDA, ("exact_hr@1",))
    assert table[~table["sft"]]["value"].tolist() == [0, 1]
    expected = summary(found, "exact_hr@1", "test").set_index("setting")["mean"]
    assert table["mean"].iloc[:2].tolist() == [expected["λ=0 α=0.5"], expected["λ=1 α=0.5"]]


def test_a_key_that_the_sweep_does_not_vary(finished):
    with pytest.raises(UserError, match="does not vary"):
        curve_table(finished, ALPHA)
    with pytest.raises(UserError, match="nothing to draw"):
        curve_figure(curve_table(finished, LAMBDA, ("no_such_metric",)))


def test_figure_holds_the_table(finished):
    table = curve_table(finished, LAMBDA)
    figure = curve_figure(table, "title")
    assert [ax.get_ylabel() for ax in figure.axes] == ["HR@1", "ValidRatio"]
    assert {ax.get_xlabel() for ax in figure.axes} == {r"$\lambda$"}
    container = next(c for c in figure.axes[0].containers if c.lines[0] is not None)  # the other is over users
    assert list(container.lines[0].get_xdata()) == [0, 2, 10]
    means = table.query("metric == 'generated_hr@1' and not sft")["mean"].tolist()
    assert list(container.lines[0].get_ydata()) == pytest.approx(means)


def test_words_on_the_axis(tmp_path):
    space = {"align.objective.margin": ["ratio", "log_ratio"]}
    folder = sweep(tmp_path, space, {"align.objective.margin": "ratio"}, lambda p, seed: 0.4, seeds=2, users=30)
    table = curve_table(collect(folder), "align.objective.margin")
    assert table["default"].tolist()[:3] == [False, True, False]
    figure = curve_figure(table)
    words = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]  # below each other, best first
    assert words == table[table["metric"] == "generated_hr@1"].query("not sft")["value"].tolist()
    assert set(words) == {"log_ratio", "ratio"}


def test_drawn_files(finished, tmp_path):
    table = curve_table(finished, LAMBDA)
    drawing = Drawing("curve-lambda", "Curve", table, curve_figure, alt_text)
    paths = drawing.save(tmp_path)
    assert [path.suffix for path in paths] == [".png", ".svg", ".pdf", ".csv"]
    first = [path.read_bytes() for path in paths]
    drawing.save(tmp_path)
    assert [path.read_bytes() for path in paths] == first


def test_svg_for_a_page(finished):
    table = curve_table(finished, LAMBDA)
    (drawn,) = Drawing("curve-lambda", "Curve", table, curve_figure, alt_text).svgs()
    assert drawn.startswith('<svg role="img" aria-label="HR@1 against λ: ')
    assert "http" not in drawn
    ids = re.findall(r'\bid="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', drawn)) <= set(ids)
    ranked = curve_table(finished, LAMBDA, ("exact_hr@1",))
    other = re.findall(r'\bid="([^"]+)"', Drawing("curve-lambda", "Curve", ranked, curve_figure, alt_text).svgs()[0])
    assert not set(ids) & set(other)
    assert "at 2 (default)" in alt_text(table)


def test_comparison_table_finds_a_planted_effect(finished):
    table = comparison_table(finished)
    assert table["setting"].tolist() == ["SFT", "λ=0", "λ=2", "λ=10"]  # by value, not by spelling
    assert table["significant"].tolist() == [False, True, False, True]
    assert table["best"].tolist() == [False, False, True, False]
    assert table["seconds"].tolist()[1:] == [31, 34, 37]
    difference = table.set_index("setting")
    assert difference.loc["λ=0", "difference"] == pytest.approx(
        difference.loc["λ=0", "generated_hr@1"] - difference.loc["λ=2", "generated_hr@1"]
    )


@pytest.mark.measures
def test_a_false_claim_is_marked_in_at_most_7_of_100_draws():
    """Equal systems, six comparisons: the marks of the table, and its bold."""
    rng = np.random.default_rng(2026)
    marked = bold = 0
    for _ in range(100):
        table = comparison_table(scored(planted(rng, [0.35] * 7), 0))
        marked += table["significant"].any()
        bold += table["best"].any()
    assert marked <= 7
    assert bold <= 7


@pytest.mark.measures
def test_a_false_claim_with_one_seed():
    rng = np.random.default_rng(2027)
    tables = [comparison_table(scored(planted(rng, [0.35] * 7, seeds=1, users=90, drift=0), 0)) for _ in range(100)]
    assert set(tables[0]["test"].dropna()) == {"McNemar"}
    assert sum(table["significant"].any() for table in tables) <= 7
    assert sum(table["best"].any() for table in tables) <= 7


def test_a_true_claim_is_marked():
    rng = np.random.default_rng(2028)
    for _ in range(10):
        table = comparison_table(scored(planted(rng, [0.3, 0.3, 0.6], seeds=5), 0))
        assert table["significant"].tolist()[2]
        assert table["best"].tolist() == [False, False, True]


def test_settings_with_fewer_seeds_are_compared_too():
    hits = planted(np.random.default_rng(1), [0.3, 0.4, 0.4])
    del hits[(1.0, 2)]
    del hits[(2.0, 0)], hits[(2.0, 1)]
    found = scored(hits, 0)
    table = comparisons(found, "exact_hr@1", "test", settings(found)[0]).set_index("setting")
    assert table["seeds"].tolist() == [2, 1]
    assert set(table["test"]) == {"crossed"}
    width = table["high"] - table["low"]
    assert width["λ=2"] > width["λ=1"]


def test_several_examples_of_a_user_count_as_one():
    hits = planted(np.random.default_rng(3), [0.3, 0.5])
    once = scored(hits, 0)
    twice = scored({key: np.repeat(hit, 2) for key, hit in hits.items()}, 0)
    table = twice.users
    column = table.column_names.index("user")
    object.__setattr__(twice, "users", table.set_column(column, "user", [np.asarray(table["user"]) // 2]))
    first, second = (comparisons(c, "exact_hr@1", "test", settings(c)[0]).iloc[0] for c in (once, twice))
    assert second["users"] == first["users"] == 150
    assert second["p"] == pytest.approx(first["p"])
    low = [summary(c, "exact_hr@1", "test")["low_users"].tolist() for c in (once, twice)]
    assert low[0] == pytest.approx(low[1])


def test_rendering(finished):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(rich_table(sweep_cells(finished)))
    text = console.export_text()
    row = next(line for line in text.splitlines() if line.startswith("│ 0 "))
    table = comparison_table(finished).set_index("setting")
    low, high = table.loc["λ=0", ["generated_hr@1_low", "generated_hr@1_high"]]
    assert f"{table.loc['λ=0', 'generated_hr@1']:.3f} [{low:.3f}, {high:.3f}]" in row
    assert "worse" in row
    assert "How does HR@1 move with the <planted> setting?" in text
    assert "Holm" in text
    body = markdown(sweep_cells(finished)).splitlines()
    assert len({line.count("|") for line in body[:6]}) == 1
    assert body[4].startswith("| **2** | **3** |")
    assert "worse" in body[3]
    tex = latex(sweep_cells(finished))
    assert tex.startswith(r"\begin{tabular}{lrrrrrrr}")
    assert tex.count(r"\\") == 5
    assert r"\textbf{default}" in tex


def test_answer_chooses_on_validation_and_reports_test(finished):
    setting, split = best_setting(finished)
    assert (setting.text, split) == ("λ=2", "validation")
    table = comparison_table(finished).set_index("setting").loc["λ=2"]
    text = answer(finished, LAMBDA)
    assert text.startswith("λ moves HR@1 (0.")
    assert f"λ=2 gives HR@1 {table['generated_hr@1']:.3f} [{table['generated_hr@1_low']:.3f}, " in text
    assert ": better than λ=0 and λ=10. That it is truly the best of them has a chance of 1" in text
    assert re.search(r"Alignment gains 0\.\d+ of HR@1 over SFT \(0\.\d+\) \(significant\) and ", text)
    assert "Chosen on validation, reported on test" in text


def test_answer_when_nothing_differs():
    text = answer(scored(planted(np.random.default_rng(4), [0.3] * 3), 0))
    found = r"Against λ=0 no measurable effect of λ on exact HR@1 \(0\.\d+ to 0\.\d+; a difference of 0\.\d+ would "
    assert re.match(found, text)
    assert re.search(r"whether it differs from λ=\d and λ=\d is undecided", text)


def test_an_effect_between_others_than_the_default_is_one():
    """The default, in the middle, differs from none for sure; the chosen one and the last do."""
    text = answer(scored(planted(np.random.default_rng(2), [0.45, 0.35, 0.25]), 1))
    assert text.startswith("λ moves exact HR@1 (0.253 to 0.438): against λ=0, λ=2 is worse (-0.184). ")
    assert "better than λ=2; whether it differs from λ=1 is undecided" in text


def test_answer_admits_that_another_is_better_on_test():
    found = scored(planted(np.random.default_rng(5), [0.2, 0.6]), 0)
    worse = found.metrics["split"] == "validation"
    flipped = found.users.to_pandas()
    validation = flipped["split"] == "validation"
    flipped.loc[validation, "exact_hr@1"] = 1 - flipped.loc[validation, "exact_hr@1"]
    object.__setattr__(found, "users", type(found.users).from_pandas(flipped, preserve_index=False))
    assert worse.any()
    assert ": worse than λ=1" in answer(found)


def test_answer_of_a_search_for_two_metrics(tmp_path):
    """Settings with long names are counted, and the front is named."""
    space = {LAMBDA: [0, 1, 2, 3], ALPHA: [0.1, 0.5, 0.9]}
    folder = sweep(tmp_path, space, {LAMBDA: 2, ALPHA: 0.5}, lambda p, seed: 0.1 + 0.25 * p[LAMBDA], seeds=2, users=200)
    account = json.loads((folder / "sweep.json").read_text()) | {"metrics": ["generated_hr@1", "valid_ratio"]}
    (folder / "sweep.json").write_text(json.dumps(account))
    found = collect(folder)
    text, front = answer(found), joint_table(found)
    assert re.search(r"λ=3 α=0\.\d gives HR@1 0\.\d+ \[.*?\] and ValidRatio 0\.9\d+ \[.*?\]: ", text)
    assert "better than 9 other settings, the default among them; whether it differs from " in text
    assert f"On validation {front['pareto'].sum()} of 12 settings" in text
    assert all(setting in text for setting in front[front["pareto"]]["setting"][:4])


def test_answer_to_what_it_costs(tmp_path):
    folder = sweep(tmp_path, {K: [1, 3, 15]}, {K: 3}, lambda p, seed: 0.3, seeds=2, users=10)
    for path in (folder / "trials").glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"train_seconds": 4.0 + content["params"][K], "peak_memory_gb": 1.1}))
    assert "Cost" not in answer(collect(folder))
    account = json.loads((folder / "sweep.json").read_text()) | {"cost": True}
    (folder / "sweep.json").write_text(json.dumps(account))
    assert "Cost: training time (s) 5 at K=1 and 19 at K=15; peak memory (GB) 1.1 at K=1 and 1.1 at K=15." in answer(
        collect(folder)
    )


def test_answers_without_results(tmp_path):
    folder = sweep(tmp_path, {LAMBDA: [0, 1]}, {LAMBDA: 1}, lambda p, seed: 0.3, seeds=1, users=10)
    only = next(iter(sorted((folder / "trials").glob("*.json"))))
    only.write_text(json.dumps(json.loads(only.read_text()) | {"status": "failed", "error": "x"}))
    assert "Without 1 failed trial." in answer(collect(folder))
    for path in (folder / "trials").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed", "error": "x"}))
    found = collect(folder)
    assert answer(found) == "No answer yet: no trial has finished (2 failed)."
    assert comparison_table(found)["setting"].tolist() == ["SFT"]
    assert "SFT" in markdown(sweep_cells(found))
    with pytest.raises(UserError, match="does not vary"):
        answer(found, ALPHA)


def test_names():
    assert symbol("align.objective.u_beta") == "U_β"
    assert math_symbol("U_β") == r"$U_{\beta}$"
    assert math_symbol("K") == "$K$"
    assert math_symbol("margin") == "margin"
    assert symbol("a.b", {"symbols": {"a.b": "Z"}}) == "Z"
    assert setting_text({LAMBDA: 2.0, "x.keep": True}) == "λ=2 keep=true"
    assert setting_text({"align.objective.name": "sdpo"}) == setting_text({"method": "sdpo"}) == "sdpo"
    assert value_text(None) == "-"
    assert metric_label("valid_ratio") == "ValidRatio"


def test_the_gap_between_generation_and_ranking_is_stated(tmp_path: Path) -> None:
    """Planted answers: 5 % name nothing, the others what is ranked first if that is the target."""
    collection = collect(sweep(tmp_path, {LAMBDA: [0, 1]}, {LAMBDA: 0}, lambda p, s: 0.5, users=200))
    (note,) = generation_notes(collection)
    means = collection.metrics[collection.metrics["split"] == "test"].pivot_table(
        index="trial", columns="metric", values="value"
    )
    gap = means["generated_hr@1"] - means["exact_hr@1"]
    assert f"{gap.min():+.3f} to {gap.max():+.3f} over 7 models" in note
    assert f"{1 - means['valid_ratio'].mean():.1%} name no candidate" in note
    assert f"{(means['valid_ratio'] - means['agreement']).mean():.1%} name one that" in note
    assert note in footnotes(collection, comparison_table(collection))
    silent = collect(sweep(tmp_path / "b", {LAMBDA: [0]}, {LAMBDA: 0}, lambda p, s: 0.5, generate=False))
    assert generation_notes(silent) == []


def test_the_best_recommender_beside_a_sweep_is_a_line_and_a_sentence(tmp_path: Path) -> None:
    folder = sweep(tmp_path, {LAMBDA: [0, 2]}, {LAMBDA: 2.0}, lambda p, seed: 0.5, users=80)
    rng = np.random.default_rng(1)
    beside = {"popularity": "evaluate/popularity", "sasrec": "evaluate/sasrec", "gru4rec": "evaluate/not-made"}
    for name, hit in (("popularity", 0.05), ("sasrec", 0.3)):
        evaluation(tmp_path, beside[name], rows(rng, hit, 80, generate=False))
    account = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(account | {"beside": beside}))
    table = curve_table(collect(folder), LAMBDA)
    ranks = pq.read_table(tmp_path / beside["sasrec"] / "rows.parquet")
    test = ranks.filter(pc.equal(ranks["split"], "test"))["rank"].to_numpy()
    hits = table[table["metric"] == "generated_hr@1"]
    assert set(hits["recommender"]) == {"sasrec"}
    assert hits["best"].to_numpy() == pytest.approx((test == 1).mean())
    assert set(table.loc[table["metric"] == "valid_ratio", "recommender"]) == {""}
    level = f"sasrec has {(test == 1).mean():.3f} on the same candidates"
    best = summary(collect(folder), "generated_hr@1", "test").query("setting == 'λ=2'")["mean"].iloc[0]
    assert f"{level}, λ=2 {best - (test == 1).mean():.3f} more (not significant)." in answer(collect(folder))
    write(collect(folder), tmp_path / "out")
    assert f"{level}." in answer(load(tmp_path / "out"))  # whose rows are not written
    (folder / "sweep.json").write_text(json.dumps(account | {"beside": {"popularity": beside["popularity"]}}))
    said = answer(collect(folder))
    assert re.search(r"popularity has 0\.\d+ on the same candidates, λ=2 0\.\d+ more \(significant\)", said)
    lines = curve_figure(hits).axes[0].get_lines()
    assert [line.get_ydata()[0] for line in lines if line.get_label() == "sasrec"] == pytest.approx(
        [(test == 1).mean()]
    )
