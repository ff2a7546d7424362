"""`raypref compare A B`: two trials or runs, by their rows: configs, paired differences, wins, what each says."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from raypref.errors import UserError
from raypref.evaluation.metrics import per_user
from raypref.results.labels import metric_label
from raypref.results.lineage import config_of, differing, histories
from raypref.results.pairs import answers, differences, sample_examples
from raypref.results.records import Unusable, read_rows
from raypref.storage.location import Location
from raypref.storage.store import Store, read_json
from raypref.sweeps.options import default_root

FEW = 5  # sample prompts


def compare(
    first: tyro.conf.Positional[str],
    second: tyro.conf.Positional[str],
    root: str = "",
    split: str = "test",
    samples: int = FEW,
) -> int:
    """Compare two trials of sweeps, or two runs: what differs in config, metrics, users won and lost, and answers.

    Args:
        first: A trial's label ("recpo λ=2 seed=0"), its id, a run's folder in runs/, or an evaluation's address; "sft"
            is the SFT model of the newest sweep.
        second: Likewise; differences are of it less the first.
        root: Folder of all results; default: $RAYPREF_ROOT, else ~/raypref-results.
        split: test or validation.
        samples: How many prompts are shown with both answers.
    """
    store, console = Store(root or default_root()), Console(width=None if sys.stdout.isatty() else 160)
    place = Location.of(store.location)
    names = (first, second)
    evaluations = [find(store, name) for name in names]
    tables = []
    for name, evaluation in zip(names, evaluations):
        try:
            rows = read_rows(place, evaluation)
        except Unusable as error:
            raise UserError(str(error), where=name, hint="wait for it, or run it again") from error
        for metric, values in per_user(rows).items():
            rows = rows.append_column(metric, [values])
        chosen = [value == split for value in rows["split"].to_pylist()]
        tables.append(rows.filter(chosen))
    if not all(table.num_rows for table in tables):
        raise UserError(f"one of them was not evaluated on '{split}'", where="--split", hint="take another split")
    console.print(f"A: {first} ({evaluations[0]})\nB: {second} ({evaluations[1]})", highlight=False, soft_wrap=True)
    _print_configs(console, differing([config_of(place, evaluation) for evaluation in evaluations]))
    found = differences(*tables)
    table = Table(title=f"on {split}; B - A is paired by user, 95 % by bootstrap over users", title_justify="left")
    table.add_column("metric")
    for heading in ("A", "B", "B - A", "95 %", "p", "B wins", "A wins", "ties"):
        table.add_column(heading, justify="right")
    for row in found:
        bounds = f"\\[{row.test.low:+.3f}, {row.test.high:+.3f}]"
        cells = [f"{row.first:.3f}", f"{row.second:.3f}", f"{row.test.difference:+.3f}", bounds, f"{row.test.p:.3f}"]
        table.add_row(metric_label(row.metric), *cells, str(row.wins), str(row.losses), str(row.ties))
    console.print(table)
    if found and samples:
        examples = sample_examples(tables, found[0].metric, samples)
        prompts = histories(place, evaluations[0], split, examples)
        for example, a, b in zip(examples, *(answers(table, examples) for table in tables)):
            history, target = prompts.get(example, ([], "?"))
            asked = f"example {example}, after {', '.join(history[-5:]) or '?'}; next was {target}"
            console.print(f"{asked}\n  A: {a}\n  B: {b}", highlight=False, soft_wrap=True, markup=False)
    return 0


def _print_configs(console: Console, rows: dict[str, list[object]]) -> None:
    if not rows:
        console.print("their configs do not differ", highlight=False)
        return
    table = Table(title="what differs in their configs", title_justify="left")
    for heading in ("key", "A", "B"):
        table.add_column(heading, overflow="fold")
    for key, values in rows.items():
        table.add_row(key, *("-" if value is None else str(value).replace("[", "\\[") for value in values))
    console.print(table)


def find(store: Store, name: str) -> str:
    """The evaluation's address of what a name means; of several trials with one label the newest.

    Raises:
        UserError: nothing is called so, with the nearest names.
    """
    from raypref.config.base import lookup

    known: dict[str, str] = {}
    for folder in sorted(_folders(store), key=lambda folder: folder.stat().st_mtime):  # newer ones take a label over
        account = read_json(folder / "sweep.json")
        if account.get("sft"):
            known |= {"sft": str(account["sft"]), str(account["sft"]): str(account["sft"])}
        for path in sorted((folder / "trials").glob("*.json")):
            record = read_json(path)
            if evaluation := record.get("evaluate"):
                names = (record.get("label"), record.get("trial"), evaluation)
                known |= {str(called): str(evaluation) for called in names if called}
                if folder.parent.name == "runs":
                    known |= {folder.name: str(evaluation), f"runs/{folder.name}": str(evaluation)}
    found: str = lookup(name.rstrip("/"), known, "trial or run")
    return found


def _folders(store: Store) -> list[Path]:
    for kind in ("sweeps", "runs"):
        store.receive(store.root / kind)
    return [path.parent for kind in ("sweeps", "runs") for path in store.root.glob(f"{kind}/*/sweep.json")]
