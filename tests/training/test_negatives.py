"""Where negatives come from and what chooses them: RecPO's ways, and the policy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raypref.config.training import AlignConfig
from raypref.data.candidates import draws, keys
from raypref.models.layout import all_candidates
from raypref.objectives.negatives import DRAWN, choose_negatives
from raypref.stages.identity import LATER, section_identity
from raypref.testing.batches import random_batch
from raypref.training.batches import Collator
from raypref.training.negatives import NegativeChoice, utilities
from raypref.training.tasks import table_columns, task_of
from tests.support.objective_batches import apply, with_logps
from tests.support.training_runs import (
    PAD,
    Job,
    align,
    engine_for,
    furthest,
    make_table,
    run,
    spawn,
    weights,
    with_,
)

TABLE = make_table(64)


def chosen(negatives: int = 3, **choice: Any) -> np.ndarray:
    return Collator(negatives, 5, PAD, choice=NegativeChoice(**choice)).choose(TABLE, 1)


def of(name: str) -> np.ndarray:
    return np.array(TABLE[name].to_pylist(), dtype=float)


def taken(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.take_along_axis(matrix, columns, axis=1)


def test_random_ones_first_and_the_users_own_for_want_of_them() -> None:
    own = ~np.isnan(of("latency"))
    own[np.arange(64), TABLE["target"].to_numpy()] = True
    negatives = chosen(source="random")[:, 1:]
    enough = (~own).sum(axis=1) >= 3
    assert 5 < enough.sum() < 60
    assert not taken(own, negatives)[enough].any()
    assert (taken(own, negatives)[~enough].sum(axis=1) == 3 - (~own)[~enough].sum(axis=1)).all()


def test_rated_ones_are_the_users_own_of_less_utility() -> None:
    """By RecPO's published code: rating / latency^0.5, a target that is a random item counting as rated 3, 11 ahead."""
    rating, latency = of("rating"), of("latency")
    useful = np.where(np.isnan(rating), 3 / 11**0.5, rating / latency**0.5)
    np.testing.assert_allclose(utilities(TABLE), useful)
    target = taken(useful, TABLE["target"].to_numpy()[:, None])
    fits = ~np.isnan(latency) & (useful < target)
    negatives = chosen(1, source="rated")[:, 1:]
    some = fits.any(axis=1)
    assert 10 < some.sum() < 64
    assert taken(fits, negatives)[some].all()


def test_the_least_useful() -> None:
    useful = utilities(TABLE)
    useful[np.arange(64), TABLE["target"].to_numpy()] = np.inf
    negatives = chosen(by="utility")[:, 1:]
    np.testing.assert_allclose(taken(useful, negatives), np.sort(useful, axis=1)[:, :3])


def test_the_default_draw_is_what_it_was() -> None:
    """Sorted by the hash of (seed, epoch, example) alone, as before there was a choice."""
    example = TABLE["example"].to_numpy()
    order = draws(keys(5, example, np.full_like(example, 1)), np.arange(6)) >> np.uint64(1)
    order[np.arange(64), TABLE["target"].to_numpy()] = np.iinfo(np.uint64).max
    assert (chosen()[:, 1:] == np.argsort(order, axis=1)[:, :3]).all()


def wide(by: str, count: int = 3, share: float = 1.0, lots: torch.Tensor | None = None) -> Any:
    batch = random_batch(4, 9, seed=1)
    numbers = torch.rand(4, 9, generator=torch.Generator().manual_seed(0)) if lots is None else lots
    batch.columns[DRAWN] = numbers
    return batch, choose_negatives(batch, count, by, share)


def test_hard_ones_are_the_likeliest_with_their_own_columns() -> None:
    batch, found = wide("hard")
    best = batch.policy_logps_neg.topk(3, dim=1)
    torch.testing.assert_close(found.policy_logps_neg, best.values)
    for name in ("rating_neg", "expert_score_neg", "expert_confidence_neg"):
        torch.testing.assert_close(found.columns[name], batch.columns[name].gather(1, best.indices), equal_nan=True)
    assert torch.equal(found.ref_logps_neg, batch.ref_logps_neg.gather(1, best.indices))
    assert torch.equal(found.columns["expert_score_all_neg"], batch.columns["expert_score_all_neg"])


def test_borderline_ones_are_the_nearest_to_the_target() -> None:
    batch, found = wide("borderline")
    apart = (batch.policy_logps_neg - batch.policy_logps_pos[:, None]).abs()
    kept = (found.policy_logps_neg - found.policy_logps_pos[:, None]).abs()
    torch.testing.assert_close(kept.sort(dim=1).values, apart.sort(dim=1).values[:, :3])


def test_self_play_draws_from_the_policys_own_distribution() -> None:
    """One of four titles, 20,000 times: each as often as the softmax says, to four standard errors."""
    draw = torch.Generator().manual_seed(3)
    batch = random_batch(1, 4, seed=1)
    pi = batch.policy_logps_neg[0].softmax(dim=0).detach()
    many = with_logps(
        random_batch(20_000, 4, seed=1),
        batch.policy_logps_pos.detach().expand(20_000),
        batch.policy_logps_neg.detach().expand(20_000, 4),
    )
    many.columns[DRAWN] = torch.rand(20_000, 4, generator=draw, dtype=torch.float64)
    found = choose_negatives(many, 1, "self-play", 1.0).policy_logps_neg
    share = (found == batch.policy_logps_neg[0].detach()).double().mean(dim=0)
    assert ((share - pi).abs() < 4 * (pi * (1 - pi) / 20_000).sqrt()).all()


def test_a_share_is_chosen_and_the_rest_drawn() -> None:
    batch, found = wide("hard", count=4, share=0.5)
    lots = batch.columns[DRAWN]
    for row in range(4):
        best = set(batch.policy_logps_neg[row].topk(2).indices.tolist())
        rest = [i for i in lots[row].argsort().tolist() if i not in best][:2]
        expected = batch.policy_logps_neg[row, [*best, *rest]].sort().values
        torch.testing.assert_close(found.policy_logps_neg[row].sort().values, expected)


def test_what_the_source_leaves_out_is_taken_last() -> None:
    lots = torch.rand(4, 9, generator=torch.Generator().manual_seed(0)) + (torch.arange(9) >= 5)
    batch, found = wide("hard", count=3, lots=lots)
    torch.testing.assert_close(found.policy_logps_neg, batch.policy_logps_neg[:, :5].topk(3, dim=1).values)


def test_only_chosen_ones_have_a_gradient() -> None:
    batch, found = wide("hard")
    (gradient,) = torch.autograd.grad(apply(found, name="sdpo").losses.sum(), batch.policy_logps_neg)
    assert ((gradient != 0).sum(dim=1) == 3).all()


@pytest.mark.parametrize("by", ["hard", "self-play", "borderline"])
def test_the_order_of_candidates_does_not_matter(by: str) -> None:
    batch, found = wide(by)
    turned = with_logps(batch, batch.policy_logps_pos, batch.policy_logps_neg.flip(1))
    turned.columns[DRAWN] = batch.columns[DRAWN].flip(1)
    again = choose_negatives(turned, 3, by, 1.0)
    torch.testing.assert_close(again.policy_logps_neg.sort().values, found.policy_logps_neg.sort().values)


def test_one_worker_is_two_with_self_play_and_a_moving_reference(tmp_path: Path) -> None:
    config = align("sdpo", negatives_by="self-play", reference_update="ema", reference_decay=0.8, max_steps=5)
    alone = run(Job(config, double=True), tmp_path / "one")
    spawn(2, {"two": Job(config, double=True)}, tmp_path)
    assert furthest(weights(tmp_path / "two"), weights(tmp_path / "one")) < 1e-6
    assert len(alone["losses"]) == 5


def test_a_reference_that_never_moves_is_the_column(tmp_path: Path) -> None:
    """replace, past the last step: the policy's own start, whose log-probs the column is given here."""
    start = Job(align("sdpo"), double=True)
    engine, table = engine_for(start), make_table()
    with torch.no_grad():
        logps = engine.score(all_candidates(table, PAD, engine.scorer.rows()))
    column = pa.array(logps.float().tolist())
    place = table.column_names.index("ref_logps")
    path = tmp_path / "table.parquet"
    pq.write_table(table.set_column(place, "ref_logps", column), path)
    fixed = run(Job(align("sdpo", max_steps=6), table=path, double=True), tmp_path / "fixed")
    moving = align("sdpo", max_steps=6, reference_update="replace", reference_every=1000)
    still = run(Job(moving, table=path, double=True), tmp_path / "still")
    assert still["losses"] == pytest.approx(fixed["losses"], rel=1e-5)
    often = run(Job(with_(moving, reference_every=1), table=path, double=True), tmp_path / "often")
    # The reference is the policy of the step before itself: each step begins at the loss of a tie, ln 4.
    assert often["losses"] == pytest.approx([np.log(4)] * 6, rel=1e-6)


def test_a_mixture_is_the_weighted_sum() -> None:
    batch = random_batch(4, 3, seed=1)
    config = align("simpo", parameters={"gamma0": 1.0}, objectives={"simpo": 2.0, "sdpo": 1.0, "sft": 0.1})
    output = task_of(config)(batch)
    parts = [apply(batch, name="simpo", gamma0=1.0).losses, apply(batch, name="sdpo").losses]
    nll = -batch.policy_logps_pos / batch.tokens_pos
    torch.testing.assert_close(output.losses, 2 * parts[0] + parts[1] + 0.1 * nll)
    torch.testing.assert_close(output.metrics["loss_sft"], nll.detach())


def test_what_a_mixture_reads() -> None:
    config = align("sdpo", objectives={"sdpo": 1.0, "napo": 1.0, "eapo": 1.0})
    assert config.loss.scope == "batch"
    assert {"ref_logps", "expert_scores", "expert_confidences", "sequence_embedding"} <= set(table_columns(config))
    assert "ref_logps" not in table_columns(align("sdpo", reference_update="ema"))
    assert {"rating", "latency"} <= set(table_columns(align("sdpo", negatives_from="rated")))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objectives": {"sdop": 1.0}}, "unknown key 'sdop': did you mean 'sdpo'"),
        ({"objectives": {"sft": 1.0}}, "sft alone is no alignment"),
        ({"objectives": {"dpo": 1.0}}, "'sdpo' is none of the mixture's"),
        ({"objectives": {"sdpo": 0.0}}, "greater than 0"),
        ({"negatives_share": 0.5}, "negatives_share has no effect"),
        ({"reference_every": 5}, "reference_every has no effect"),
        ({"reference_decay": 0.5}, "reference_decay has no effect"),
        ({"reference_update": "ema", "reference": "base"}, "begins at the SFT model"),
    ],
)
def test_settings_without_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        align("sdpo", **settings)


def test_a_moving_reference_needs_a_loss_that_reads_one() -> None:
    with pytest.raises(ValueError, match="the objective reads no reference"):
        align("simpo", reference_update="ema")


def test_keys_that_came_later_move_no_address() -> None:
    content = AlignConfig().model_dump(mode="json", by_alias=True)
    assert not LATER["align"].keys() & section_identity({"align": content}, "align").keys()
    assert content.items() >= LATER["align"].items(), "at their defaults they are no part of an address"
    chosen = section_identity({"align": content | {"negatives_by": "hard"}}, "align")
    assert chosen["negatives_by"] == "hard"
