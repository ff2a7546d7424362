"""Metrics of answers, beams, probes and popularity against scikit-learn and pandas, on rows drawn at random."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_metrics import scored

from raypref.evaluation.metrics import means, per_user

ROWS, WIDTH = 300, 8


@pytest.fixture(scope="module")
def drawn() -> tuple[pa.Table, pd.DataFrame]:
    """Rows with ties, answers that name nothing and empty histories; and the same as a frame."""
    rng = np.random.default_rng(0)
    scores = rng.integers(-9, 0, (ROWS, WIDTH)).astype(float)
    columns = {
        "answered": rng.integers(-1, WIDTH, ROWS).tolist(),
        "answered_contains": rng.integers(-1, WIDTH, ROWS).tolist(),
        "answer": ["x"] * ROWS,
        "beams": [rng.permutation(WIDTH)[:5].tolist() for _ in range(ROWS)],
        "logpop": rng.random((ROWS, WIDTH)).tolist(),
        "history_logpop": [None if i % 50 == 0 else float(v) for i, v in enumerate(rng.random(ROWS))],
    }
    table = scored(scores.tolist(), rng.integers(0, WIDTH, ROWS).tolist(), **columns)
    return table, table.to_pandas()


def best(frame: pd.DataFrame) -> np.ndarray:
    """(rows,) index of the one candidate with the highest score, -1 where several share it."""
    scores = pd.DataFrame(frame["logps"].tolist())
    alone = scores.eq(scores.max(axis=1), axis=0).sum(axis=1) == 1
    found: np.ndarray = scores.idxmax(axis=1).where(alone, -1).to_numpy()
    return found


def test_answers(drawn: tuple[pa.Table, pd.DataFrame]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    table, frame = drawn
    found = means(table)
    for rule, suffix in (("answered", ""), ("answered_contains", "_contains")):
        right = metrics.accuracy_score(frame["target"], frame[rule])
        assert found[f"generated_hr@1{suffix}"] == pytest.approx(right)
        invalid = metrics.recall_score(frame[rule] == -1, np.ones(ROWS), zero_division=0) * (frame[rule] == -1).mean()
        assert found[f"valid_ratio{suffix}"] == pytest.approx(1 - invalid)
    named = frame["answered"] >= 0
    agreeing = metrics.accuracy_score(best(frame)[named], frame["answered"][named]) * named.mean()
    assert found["agreement"] == pytest.approx(agreeing)


def test_ranking_against_ranx(drawn: tuple[pa.Table, pd.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties are broken against the target before, as ranx leaves their order open."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes ranx a minute, these rows a moment
    ranx = pytest.importorskip("ranx", reason="ranx is not installed")
    table, frame = drawn
    asked = {str(i): {str(t): 1} for i, t in enumerate(frame["target"])}
    scored_ = np.array(frame["logps"].tolist()) - 1e-3 * np.eye(WIDTH)[frame["target"]]
    ranked = {str(i): {str(c): float(s) for c, s in enumerate(row)} for i, row in enumerate(scored_)}
    names = {"hit_rate@1": "exact_hr@1", "hit_rate@5": "exact_hr@5", "ndcg@5": "exact_ndcg@5", "mrr": "exact_mrr"}
    found = ranx.evaluate(ranx.Qrels.from_dict(asked), ranx.Run.from_dict(ranked), list(names))
    ours = means(table)
    assert {names[name]: value for name, value in found.items()} == pytest.approx({n: ours[n] for n in names.values()})


def test_beams(drawn: tuple[pa.Table, pd.DataFrame]) -> None:
    """A beam's place as a score: the first of 5 has 5, what no beam names 0."""
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    table, frame = drawn
    scores = np.zeros((ROWS, WIDTH))
    for row, beams in zip(scores, frame["beams"]):
        row[beams] = range(5, 0, -1)
    relevant = np.eye(WIDTH)[frame["target"]]
    named = scores[relevant.astype(bool)] > 0
    found = means(table)
    assert found["beam_hr@5"] == pytest.approx(named.mean())
    gains = metrics.ndcg_score(relevant[named], scores[named], k=5) * named.mean()
    assert found["beam_ndcg@5"] == pytest.approx(gains)


def test_probes(drawn: tuple[pa.Table, pd.DataFrame]) -> None:
    table, frame = drawn
    top, target, said = best(frame), frame["target"], frame["answered"]
    expected = {
        "adherence": ((top == target).mean(), (said == target).mean()),
        "aversion": ((top == target).mean(), (said == target).mean()),
        "avoidance": (((top != target) & ~tied_at_top(frame)).mean(), ((said != target) & (said >= 0)).mean()),
    }
    for probe, (exact, generated) in expected.items():
        found = means(table.set_column(0, "split", pa.array([probe] * ROWS)))
        assert found[f"exact_{probe}"] == pytest.approx(exact), probe
        assert found[f"generated_{probe}"] == pytest.approx(generated), probe


def tied_at_top(frame: pd.DataFrame) -> pd.Series:
    """Rows whose target shares the highest score: it is not avoided."""
    scores = pd.DataFrame(frame["logps"].tolist())
    own = pd.Series([row[t] for row, t in zip(frame["logps"], frame["target"])])
    return own == scores.max(axis=1)


def test_popularity(drawn: tuple[pa.Table, pd.DataFrame]) -> None:
    table, frame = drawn
    long = pd.DataFrame(frame["logpop"].tolist()).stack()
    found = per_user(table)
    for name, chosen in (("exact", best(frame)), ("generated", frame["answered"].to_numpy())):
        of_chosen = pd.Series([long.get((i, int(c)), np.nan) for i, c in enumerate(chosen)])
        expected = of_chosen - frame["history_logpop"]
        np.testing.assert_allclose(found[f"{name}_popularity_bias"], expected, rtol=1e-5, atol=1e-6)
        assert means(table)[f"{name}_popularity_bias"] == pytest.approx(expected.mean(), rel=1e-4)
