"""What evaluation costs: exact ranking, greedy and beam generation, with and without the scoring pass's cache.

    raypref run --preset tiny --no-ray --root ROOT
    python benchmarks/generation.py --preset tiny --root ROOT            # and the same options as the run had
    python benchmarks/generation.py --preset tiny --root ROOT --beams 10

Takes the SFT model that lies under ROOT and its test users. CPU seconds of one thread. `alone` is transformers'
`generate` on prompts padded on the left: it computes every prompt again, for beam search once a beam.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import torch
from transformers import DynamicCache

from raypref.data.columns import ExampleTable
from raypref.errors import UserError
from raypref.evaluation.decoding import beam_answers, greedy_answers
from raypref.models.layout import all_candidates
from raypref.models.prompt_cache import prompt_cache
from raypref.models.scoring import TitleScorer
from raypref.stages.chain import chain
from raypref.stages.policy import load_policy
from raypref.stages.stage import AlignedChain
from raypref.storage.store import Store
from raypref.sweeps.options import RunOptions, parse


@dataclasses.dataclass
class Options(RunOptions):
    beams: int = 5
    """Width of the beam search."""


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        self.spent[name] = self.spent.get(name, 0.0) + time.process_time() - began
        return result


def batches(table: ExampleTable, size: int) -> Iterator[pa.Table]:
    for shard in table:
        yield from (shard.slice(first, size) for first in range(0, shard.num_rows, size))


def main() -> None:
    options, config, _ = parse(Options, sys.argv[1:], __doc__ or "")
    run, store = chain(config), Store(options.root)
    if not isinstance(run, AlignedChain) or not store.done(run.sft.address):
        raise UserError("there is no SFT model of this run", where=str(options.root), hint="raypref run, same options")
    torch.set_num_threads(1)
    tokenized, sft = store.path(run.tokenize.address), store.path(run.sft.address)
    model, tokenizer = load_policy(config, tokenized, sft)
    scorer, clock, users, same = TitleScorer(model.eval()), Clock(), 0, True
    for part in batches(ExampleTable([store.path(run.prepare.address), tokenized], "test"), config.evaluation.batch):
        users += part.num_rows
        batch = all_candidates(part, tokenizer.pad_token_id, scorer.rows()).to(model.device)
        cache = DynamicCache()
        with torch.no_grad():
            clock("exact ranking", lambda b=batch: scorer(b))
            clock("exact ranking, cache kept", lambda b=batch, c=cache: scorer(b, c))
        prompts = part["prompt_ids"].to_pylist()
        longest = max(len(ids) for row in part["title_ids"].to_pylist() for ids in row)
        given = (model, tokenizer, prompts, longest)
        said = []
        for name, computed in (("alone", None), ("cached", partial(prompt_cache, cache, batch))):
            greedy = clock(f"greedy, {name}", partial(greedy_answers, *given, computed))
            beams = clock(f"{options.beams} beams, {name}", partial(beam_answers, *given, options.beams, computed))
            said.append((greedy, beams))
        same = same and said[0] == said[1]
    print(f"{users} users; answers {'are the same' if same else 'DIFFER'}")
    for name, seconds in clock.spent.items():
        print(f"{name:<28} {seconds:7.2f} s  {1000 * seconds / users:7.2f} ms a user")


if __name__ == "__main__":
    main()
