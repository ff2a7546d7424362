"""Which interactions are targets, and which of train, validation, test and the probes each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raypref.config.data import CutConfig
from raypref.data.filtering import user_ranges
from raypref.data.hints import options
from raypref.errors import UserError

SPLITS = ("train", "validation", "test")
PROBES = ("adherence", "avoidance", "aversion", "cold-user", "cold-item")
LEAST = ("aversion",)  # sets that ask for the least fitting item
LIKED = 4.0
DISLIKED = 2.0
AVERSION_LIKED = 3  # liked items beside the disliked one in a list for aversion


@dataclass(frozen=True)
class Split:
    """Rows of the interaction table that are targets, by split, and how far each user's training data reach."""

    targets: dict[str, np.ndarray]
    """Row numbers of the targets of each split, ascending."""
    horizon: np.ndarray
    """(rows,) for each interaction the row at which its user's training data end, exclusive."""


@dataclass(frozen=True)
class Probe:
    """A set of lists that ask a special question, as rows of the interaction table."""

    cut: np.ndarray
    """(n,) the history of each example ends before this row."""
    own: np.ndarray
    """(n, m) rows of the user's own among the candidates, -1 for none; the first is what the question is about."""


def split(
    config: CutConfig, user: np.ndarray, position: np.ndarray, rating: np.ndarray, timestamp: np.ndarray | None
) -> Split:
    """Cut a log, sorted by (user, position), as `config.split` says.

    leave-last-two (RecPO): of each user's targets the last tests, the one before validates, the others train.
    user (S-DPO, NAPO): users 8:1:1; validation and test users give their last target, or all (`held_out_targets`).
    time (EAPO): two global times cut the log 8:1:1; a target belongs where its own time lies.

    Raises:
        UserError: the log has no times but the split needs an order, or `recpo` targets but no ratings; or a split by
            users of fewer than three.
    """
    if timestamp is None:
        raise UserError(
            "this data set has no times, so there is no next item to predict",
            where=f"data.split = {config.split}",
            hint="name a time column (--data.source.timestamp), or, if the rows of a file of your own are in order: "
            + options({"order": "rows"}),
        )
    target = position >= config.min_history
    if config.target != "next" and np.isnan(rating).all():
        raise UserError(
            "targets rated 4 or 5 need ratings",
            where=f"data.target = {config.target}",
            hint=options({}, {"target": "next"}),
        )
    if config.target == "recpo":
        target &= rating >= LIKED
    starts, lengths = user_ranges(user)
    owner = np.repeat(np.arange(len(starts), dtype=np.int32), lengths)  # dense user number of each row
    rows = np.flatnonzero(target)
    from_last = _places_from_last(owner[rows])
    if config.split == "leave-last-two":
        part = np.clip(2 - from_last, 0, 2)
        ends = _first_row_of_each(owner, rows[part > 0], starts + lengths)
    elif config.split == "user":
        if len(starts) < len(SPLITS):
            raise UserError(
                f"too few users for a split by users: {len(starts)}, and {len(SPLITS)} are needed at least",
                where="data.split = user",
                hint=f"split each user's sequence instead: {options({}, {'split': 'leave-last-two'})}",
            )
        part_of_user = np.repeat([0, 1, 2], _eight_one_one(len(starts)))
        np.random.default_rng(config.seed).shuffle(part_of_user)
        part = part_of_user[owner[rows]]
        if config.held_out_targets == "last":
            keep = (part == 0) | (from_last == 0)
            rows, part = rows[keep], part[keep]
        ends = np.where(part_of_user == 0, starts + lengths, starts)
    else:
        first, second = np.quantile(timestamp, [0.8, 0.9], method="higher")
        part = (timestamp[rows] >= first).astype(int) + (timestamp[rows] >= second)
        ends = _first_row_of_each(owner, np.flatnonzero(timestamp >= first), starts + lengths)
    targets = {name: rows[part == i] for i, name in enumerate(SPLITS)}
    if config.target != "utility":  # else it is known later which of them have a target
        targets["train"] = last_of_each_user(targets["train"], owner, config.max_train_examples_per_user)
    return Split(targets, ends[owner])


def last_of_each_user(rows: np.ndarray, user: np.ndarray, count: int | None) -> np.ndarray:
    """The last `count` of each user's `rows` of the interaction table, all for none; `user` (rows,): whose each is."""
    kept: np.ndarray = rows if count is None else rows[_places_from_last(user[rows]) < count]
    return kept


def most_useful(rating: np.ndarray) -> np.ndarray:
    """(n,) which of the subsequent items is the target of `data.target: utility`: greatest `rating / (1 + step)^0.5`.

    Args:
        rating: (n, m) of the items at steps 0 to m - 1, NaN where there is none. Ties go to the sooner.
    """
    utility = np.nan_to_num(rating, nan=-np.inf) / (1 + np.arange(rating.shape[1])) ** 0.5
    best: np.ndarray = utility.argmax(axis=1)
    return best


def check_not_empty(targets: dict[str, np.ndarray], config: CutConfig) -> None:
    """Refuse a cut that leaves one of the three splits without an example."""
    empty = [name for name in SPLITS if len(targets[name]) == 0]
    if empty:
        raise UserError(
            f"no example is left for {', '.join(empty)}",
            where=f"data.split = {config.split}, target = {config.target}, min_history = {config.min_history}",
            hint=_wider(config),
        )


def _wider(config: CutConfig) -> str:
    """The option that most widens what counts as an example."""
    if config.target == "recpo":
        return f"take the next item whatever its rating: {options({}, {'target': 'next'})}"
    if config.min_history > 1:
        return f"begin with shorter histories: {options({}, {'min_history': 1})}"
    if config.k_core > 1:
        return f"filter less: {options({}, {'k_core': 1})}"
    return "take more users with longer sequences"


def probes(
    config: CutConfig, cut: Split, user: np.ndarray, position: np.ndarray, rating: np.ndarray
) -> dict[str, Probe]:
    """The lists of RecPO section 5.3, cut from what no training example has seen.

    adherence: a liked item that lies ahead, and a liked one that comes later still; the nearest is right. The cut is
        the user's last but one held-out target that was liked. Where nothing is rated, each target counts as liked.
    avoidance: the user's last interaction, if rated 1 or 2, among random items; any other choice is right.
    aversion: the nearest disliked item after the user's first held-out target, up to three liked ones, random items;
        the prompt asks for the least fitting. The paper leaves its make-up open; this is ours.
    """
    held_out = np.arange(len(user)) >= cut.horizon
    asked = np.zeros(len(user), dtype=bool)
    asked[cut.targets["test"]] = True
    if config.split == "leave-last-two":
        asked[cut.targets["validation"]] = True
    ahead = np.flatnonzero(asked & held_out)
    wanted = ahead[~(rating[ahead] < LIKED)]
    room = config.candidates.eval_random + 1
    nearest = wanted[_places_from_last(user[wanted]) == 1]
    later = [np.append(wanted, -1)[np.searchsorted(wanted, nearest) + 1]]
    liked = rating >= LIKED
    starts, lengths = user_ranges(user)
    last = (starts + lengths - 1)[held_out[starts + lengths - 1]]
    of_test_users = np.isin(user[last], user[ahead]) | (config.split != "user")
    disliked_last = last[(rating[last] <= DISLIKED) & (position[last] >= config.min_history) & of_test_users]
    first_ahead = ahead[np.r_[True, user[ahead][1:] != user[ahead][:-1]]] if len(ahead) else ahead
    return {
        "adherence": Probe(nearest, np.stack([nearest, *later], axis=1)),
        "avoidance": Probe(disliked_last, disliked_last[:, None]),
        "aversion": _aversion(first_ahead, user, liked, rating <= DISLIKED, min(AVERSION_LIKED, room - 1)),
    }


def _aversion(cut: np.ndarray, user: np.ndarray, liked: np.ndarray, disliked: np.ndarray, most: int) -> Probe:
    worst = _next_rows(cut, user, disliked, 1)
    cut, worst = cut[worst[:, 0] >= 0], worst[worst[:, 0] >= 0]
    return Probe(cut, np.concatenate([worst, _next_rows(cut, user, liked, most)], axis=1))


def _next_rows(start: np.ndarray, user: np.ndarray, wanted: np.ndarray, most: int) -> np.ndarray:
    """(n, most) the next wanted rows at or after `start` of the same user, -1 where there are no more."""
    rows = np.append(np.flatnonzero(wanted), -1)
    at = np.searchsorted(rows[:-1], start)[:, None] + np.arange(most)
    found = rows[np.minimum(at, len(rows) - 1)]
    return np.where((found >= 0) & (user[found] == user[start][:, None]), found, -1)


def _first_row_of_each(owner: np.ndarray, rows: np.ndarray, default: np.ndarray) -> np.ndarray:
    """Of each owner the first of the ascending `rows`, or its `default`."""
    result = default.copy()
    result[owner[rows][::-1]] = rows[::-1]  # of several assignments the last one stays: the first row
    return result


def _places_from_last(owner: np.ndarray) -> np.ndarray:
    """0 for the last row of each run of equal owners, 1 for the one before, ..."""
    if len(owner) == 0:
        return np.zeros(0, dtype=np.int64)
    starts, lengths = user_ranges(owner)
    return np.repeat(starts + lengths, lengths) - 1 - np.arange(len(owner))


def _eight_one_one(n: int) -> list[int]:
    tenth = max(n // 10, 1)
    return [n - 2 * tenth, tenth, tenth]
