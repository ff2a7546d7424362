"""Ratings of any scale are found, said and brought to 0.5 to 5; what stands for none is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from raypref.config.sources import CsvSource
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from tests.support.own_files import LENGTH, USERS, events, facts, lines, read, said, write


def stars(tmp_path, written, **options) -> dict[str, float | None]:
    """Rating by what stands in the file; `written` is drawn upon row by row."""
    texts = [str(written[i % len(written)]) for i in range(USERS * LENGTH)]
    source = iter(texts)
    log = read(write(tmp_path / "x.csv", lines("|", rating=lambda e: next(source))), **options)
    assert log.interactions.num_rows == USERS * LENGTH
    by_event = {(user, item): rating for user, item, rating, _, _ in facts(log)}
    return {text: by_event[e.user, e.item] for text, e in zip(texts, events())}


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ([1, 2, 3, 4, 5], {"1": 1, "3": 3, "5": 5}),
        (["0.5", "3.5", "5.0"], {"0.5": 0.5, "3.5": 3.5, "5.0": 5}),
        (["4,5", "3,0"], {"4,5": 4.5, "3,0": 3}),
        ([1, 4, 7, 8, 10], {"1": 0.5, "4": 2, "7": 3.5, "8": 4, "10": 5}),
        (["7.5", "9.2", "10"], {"7.5": 3.75, "10": 5}),
        ([0, 40, 80, 100], {"0": 0.5, "40": 2, "80": 4, "100": 5}),
        ([0, 1], {"0": 1, "1": 5}),
        ([-1, 1], {"-1": 1, "1": 5}),
        ([-1, 0, 1], {"-1": 1, "0": None, "1": 5}),
        (["true", "false"], {"true": 5, "false": 1}),
        (["like", "Dislike"], {"like": 5, "Dislike": 1}),
        (["0.0", "0.25", "1.0"], {"0.0": 1, "0.25": 2, "1.0": 5}),
        ([0, 1, 3, 5], {"0": None, "1": 1, "5": 5}),
        ([-1, 1, 5], {"-1": None, "5": 5}),
        ([-1, "", 2, 5, 8, 10], {"-1": None, "": None, "2": 1, "10": 5}),
        (["", "NULL", "nan", 2, 4], {"": None, "NULL": None, "nan": None, "4": 4}),
        ([0, 5, 10], {"0": None, "5": 2.5, "10": 5}),
        ([-1, -0.5, 0, 0.5, 1], {"-1": 1, "-0.5": 2, "0": 3, "0.5": 4, "1": 5}),
        (["4/5", "2/5", "5/5"], {"4/5": 4, "5/5": 5}),
        (["3/4", "4/4"], {"3/4": 3.75, "4/4": 5}),
        (["8/10", "7,5 / 10", "10/10"], {"8/10": 4, "7,5 / 10": 3.75, "10/10": 5}),
        (["80%", "40 %"], {"80%": 4, "40 %": 2}),
        (["4 stars", "1 star", "Rated 3 out of 5"], {"4 stars": 4, "1 star": 1, "Rated 3 out of 5": 3}),
        (["\u2605\u2605\u2605\u00bd", "\u2605\u2606\u2606\u2606\u2606"], {"\u2605\u2605\u2605\u00bd": 3.5}),
        (["\u2b50\u2b50", "\u2b50\ufe0f\u2b50\ufe0f\u2b50\ufe0f"], {"\u2b50\ufe0f\u2b50\ufe0f\u2b50\ufe0f": 3}),
        (["'4", "'5"], {"'4": 4}),
        (["\uff15", "\u0663"], {"\uff15": 5, "\u0663": 3}),
    ],
)
def test_scales_are_found(written, wanted, tmp_path):
    found = stars(tmp_path, written)
    assert {text: found[text] for text in wanted} == wanted


@pytest.mark.parametrize(
    ("written", "phrase"),
    [
        ([1, 5], "ratings 0.5 to 5"),
        ([1, 10], "ratings 1 to 10, times 0.5"),
        ([0, 5, 10], "unrated: 0 (80)"),
        ([-1, "", 3, 5], "unrated: -1 (60), empty (60)"),
        ([5, 50, 100], "ratings 0 to 100, times 0.05"),
        ([0, 1], "ratings 0 to 1 (thumbs), as 1 to 5"),
    ],
)
def test_scales_are_said(written, phrase, tmp_path):
    source = iter(written * 240)
    assert phrase in said(read(write(tmp_path / "x.csv", lines(rating=lambda e: str(next(source))))))


@pytest.mark.parametrize(
    ("options", "written", "wanted"),
    [
        ({"rating_scale": "1-7"}, [1, 7], {"1": 5 / 7, "7": 5}),
        ({"rating_scale": "0-10"}, [0, 10], {"0": 0.5, "10": 5}),
        ({"rating_scale": "-10-10"}, [-10, 0, 10], {"-10": 0.5, "0": 2.75, "10": 5}),
        ({"rating_scale": "1-10"}, [1, 4, 5], {"1": 0.5, "4": 2, "5": 2.5}),
        ({"unrated": (99.0,)}, [1, 5, 99], {"1": 1, "99": None}),
        ({"unrated": ()}, [0, 5, 10], {"0": 0.5, "10": 5}),
    ],
)
def test_scales_that_are_said_by_the_user(options, written, wanted, tmp_path):
    found = stars(tmp_path, written, **options)
    assert {text: _or_nan(found[text]) for text in wanted} == pytest.approx(
        {text: _or_nan(value) for text, value in wanted.items()}, rel=1e-6, nan_ok=True
    )


def _or_nan(rating: float | None) -> float:
    return float("nan") if rating is None else rating


@pytest.mark.parametrize(
    ("written", "what", "option"),
    [
        ([1, 4, 7], "ratings reach 7", "--data.source.rating-scale 1-7"),
        ([3, 15, 20], "ratings reach 20", "--data.source.rating-scale 1-20"),
        ([-10, 3, 10], "ratings go from -10 to 10", "--data.source.rating-scale=-10-10"),
        ([1, 1], "every rating is 1", "--data.source.rating None --data.target next"),
        ([3, 1000, 7000], "look like counts", "--data.source.rating None --data.source.count rating"),
    ],
)
def test_scales_that_nobody_can_tell_are_refused_with_the_option(written, what, option, tmp_path):
    with pytest.raises(UserError, match=what) as caught:
        stars(tmp_path, written)
    assert option in caught.value.hint
    assert "max-bad-lines" not in str(caught.value)


def test_stray_values_are_broken_lines_and_no_scale(tmp_path):
    content = lines()
    content[7] = content[7].replace(",2,", ",55,")
    log = read(write(tmp_path / "x.csv", content))
    assert [(r["line"], r["reason"]) for r in log.rejected.to_pylist()] == [(8, "rating is not in 0.5..5")]
    assert log.files[0].accepted + log.files[0].rejected == log.files[0].lines == USERS * LENGTH


def test_advice_never_throws_half_the_data_away(tmp_path):
    broken = iter(["x", "5"] * 240)
    with pytest.raises(UserError, match="120 of 240 lines are broken") as caught:
        read(write(tmp_path / "x.csv", lines(rating=lambda e: next(broken))))
    assert "max-bad-lines" not in caught.value.hint
    few = iter((["x"] + ["5"] * 19) * 240)
    with pytest.raises(UserError, match="12 of 240 lines are broken") as caught:
        read(write(tmp_path / "x.csv", lines(rating=lambda e: next(few))))
    assert "--data.source.max-bad-lines 0.06" in caught.value.hint


@pytest.mark.parametrize("none", [None, "None", "none", "null", ""])
def test_ratings_are_left_out_by_null_and_by_its_words(none, tmp_path):
    log = read(write(tmp_path / "x.csv", lines()), rating=none)
    assert log.interactions["rating"].null_count == USERS * LENGTH


def test_truth_values_of_parquet_are_thumbs(tmp_path):
    frame = pd.DataFrame([(e.user, e.item, e.rating > 3, e.time, e.title) for e in events()])
    frame.columns = ["user", "item", "rating", "timestamp", "title"]
    frame.to_parquet(tmp_path / "x.parquet")
    wanted = [5.0 if e.rating > 3 else 1.0 for e in sorted(events(), key=lambda e: (e.user, e.item))]
    assert [row[2] for row in sorted(facts(read(tmp_path / "x.parquet")))] == wanted


def test_recbole_ratings_have_any_scale_too(tmp_path):
    rows = [f"{e.user}\t{e.item}\t{e.rating * 2}\t{e.time}" for e in events()]
    write(tmp_path / "x.inter", ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows])
    items = dict.fromkeys((e.item, e.title) for e in events())
    write(tmp_path / "x.item", ["item_id:token\ttitle:token_seq", *(f"{i}\t{t}" for i, t in items)])
    from raypref.config.sources import RecBoleSource

    log = SOURCES["recbole"](RecBoleSource(path=tmp_path))
    assert np.nanmax(log.interactions["rating"].to_numpy()) == 5
    assert "ratings 1 to 10, times 0.5" in said(log)


def test_a_scale_that_is_none_is_refused():
    with pytest.raises(ValueError, match="lowest and the highest"):
        CsvSource(rating_scale="ten")
    with pytest.raises(ValueError, match="lowest and the highest"):
        CsvSource(rating_scale="5-1")


def test_zero_to_four_may_mean_two_things(tmp_path):
    content = lines(rating=lambda e: str(e.rating - 1))
    with pytest.raises(UserError, match="0 may be the lowest one, or stand for none") as caught:
        read(write(tmp_path / "x.csv", content))
    assert "--data.source.rating-scale 0-4" in caught.value.hint
    assert {r for _, _, r, _, _ in facts(read(tmp_path / "x.csv", rating_scale="0-4"))} == {0.5, 1.25, 2.5, 3.75, 5}
    assert {r for _, _, r, _, _ in facts(read(tmp_path / "x.csv", rating_scale="0.5-5"))} == {None, 1, 2, 3, 4}


def test_a_few_ratings_past_the_scale_are_no_wider_scale(tmp_path):
    """Six of 240 ratings are 11: 1-11 as the scale would make all others dislikes."""
    file = write(tmp_path / "x.csv", lines(rating=lambda e: "11" if e.item == "i3" else str(e.rating)))
    with pytest.raises(UserError, match="6 of 240 ratings are above 5") as caught:
        read(file)
    assert "--data.source.rating-scale 0.5-5 --data.source.max-bad-lines 0.03" in caught.value.hint
    log = read(file, rating_scale="0.5-5", max_bad_lines=0.03)
    assert (log.interactions.num_rows, log.rejected.num_rows) == (234, 6)
