"""`raypref store`: what lies in the results' folder, and what of it nobody needs any more."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from raypref.config.base import lookup
from raypref.storage.headway import duration
from raypref.storage.inventory import outputs, referrers, remove, unused
from raypref.storage.store import Address, Store
from raypref.sweeps.options import default_root

Root = Annotated[str, tyro.conf.arg(help="Folder of all results, or an object store's address.")]


def _list(root: Root = "", stage: str | None = None) -> None:
    """List outputs: address, size, age, how many sweeps, studies and named runs refer to each.

    Args:
        stage: Only those of this stage (prepare, sft, align ...).
    """
    store = Store(root or default_root())
    found = outputs(store)
    users = referrers(store, found)
    table = Table(title=f"outputs under {store.location}", title_justify="left")
    table.add_column("address", no_wrap=True)
    for heading in ("size", "age", "used by"):
        table.add_column(heading, justify="right")
    shown = [output for output in found.values() if stage is None or output.address.startswith(f"{stage}/")]
    for output in sorted(shown, key=lambda output: -output.size):
        used = str(len(users[output.address])) if users[output.address] else "nobody"
        table.add_row(output.address, size_text(output.size), duration(output.age_s), used)
    console = _console()
    console.print(table)
    free = sum(output.size for output in found.values() if not users[output.address])
    total = sum(output.size for output in shown)
    console.print(f"{len(shown)} outputs, {size_text(total)}; nobody refers to {size_text(free)} (raypref store prune)")


def _show(address: tyro.conf.Positional[str], root: Root = "") -> None:
    """Show one output: size, age, what it was made from and with what config, who refers to it.

    Args:
        address: As `raypref store list` prints it; the hash alone will do.
    """
    store = Store(root or default_root())
    found = outputs(store)
    named = {output.rsplit("-", 1)[-1]: output for output in found} | {output: output for output in found}
    output = found[lookup(address, named, "output")]
    users = referrers(store, found)[output.address]
    stage, name = output.address.split("/")
    manifest = store.manifest(Address(stage, *name.rsplit("-", 1)))
    console = _console()
    console.print(f"{output.address}: {size_text(output.size)}, {duration(output.age_s)} old", highlight=False)
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(output.written))
    console.print(f"written {written} in {manifest['seconds']:.1f} s on {manifest['host']}", highlight=False)
    for role, made_from in manifest["inputs"].items():
        console.print(f"made from {role}: {made_from}", highlight=False, soft_wrap=True)
    for user in sorted(users) or ["nobody"]:
        console.print(f"used by {user}", highlight=False, soft_wrap=True)
    console.print_json(json.dumps({"config": manifest["config"], "facts": manifest["facts"]}, default=str))


def _prune(root: Root = "", older_than: float = 0.0, yes: bool = False, dry_run: bool = False) -> None:
    """Delete outputs that no sweep, study or named run refers to, after saying which and how much, and asking.

    What is being made stays. A sweep or run is let go of by deleting its folder in sweeps/ or runs/.

    Args:
        older_than: Only those that are so many hours old.
        yes: Do not ask.
        dry_run: Only say what would be deleted.
    """
    store, console = Store(root or default_root()), _console()
    chosen = unused(store, older_than * 3600)
    for output in chosen:
        console.print(
            f"{size_text(output.size):>9}  {duration(output.age_s):>8} old  {output.address}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    total = sum(output.size for output in chosen)
    console.print(f"{len(chosen)} outputs that nobody refers to, {size_text(total)}", highlight=False)
    if not chosen or dry_run or not (yes or _agreed(console)):
        return
    still = {output.address for output in unused(store, older_than * 3600)}  # somebody may have begun to need one
    going = [output for output in chosen if output.address in still]
    remove(store, [output.address for output in going])
    freed = size_text(sum(output.size for output in going))
    console.print(f"deleted {len(going)} outputs, {freed} freed", highlight=False)


def _agreed(console: Console) -> bool:
    if not sys.stdin.isatty():
        console.print("nothing is deleted: to delete, give --yes", highlight=False)
        return False
    return console.input("delete them? [y/N] ").strip().lower() in ("y", "yes")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def size_text(size: float) -> str:
    """12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


COMMANDS: dict[str, Callable[..., None]] = {"list": _list, "show": _show, "prune": _prune}
