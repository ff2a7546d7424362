"""Every command on a page parses; those that are marked `<!-- run -->` are run as they stand (slow)."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
from page_commands import CHECKOUT, PAGES, Shown, commands, fault

RUNNER = runpy.run_path(str(CHECKOUT / "docs" / "scripts" / "run_page.py"))
RUN = [page for page in PAGES if RUNNER["blocks"](page)]
ALL = [shown for page in PAGES for shown in commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_parses(page: Path) -> None:
    faults = [f"{shown.text}: {why}" for shown in commands(page) if (why := fault(shown)) is not None]
    assert not faults, "\n".join(faults)


def test_pages_show_commands_at_all() -> None:
    assert len(ALL) > 80
    assert {shown.page for shown in ALL} >= {"README.md", "tutorial.md", "sweeps.md", "data.md", "results.md"}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("python jobs/sweep_lamda.py", "no job"),
        ("python jobs/sweep_lambda.py --preset tyni", "no preset"),
        ("python jobs/sweep_lambda.py --align.max-stpes 3", "no option --align.max-stpes"),
        ("python jobs/sweep_beta.py --align.objective.tau 1", "no option --align.objective.tau"),
        ("raypref submit jobs/sweep_rho.py --limt 2", "no option --limt"),
        ("raypref exprot RUN", "no command"),
        ("raypref export RUN --too x", "no option --too"),
        ("raypref data show ml-1m --cut.kcore 3", "no option --cut.kcore"),
        ("python benchmarks/engine.py --lra 8", "no --lra"),
        ("pytest tests/nothing.py", "there is no"),
        ("make swep", "no target"),
        ("vllm serve my-model", "mark it"),
        ("frobnicate", "what is"),
    ],
)
def test_a_wrong_command_is_found(command: str, why: str) -> None:
    assert why in (fault(Shown("x.md", command, None)) or "")


@pytest.mark.parametrize(
    "command",
    [
        "python jobs/sweep_alpha.py --method napo --align.objective.rho 0.5 --evaluation.no-generate",
        "python jobs/replicate.py --study main --dataset lastfm --only sft sdpo --write docs/results.md",
        "ray job submit --working-dir . -- python jobs/sweep_rho.py --seeds 2",
        "raypref data show ml-1m --cut.k-core 3",
        "raypref run --objective custom --align.objective.file x.py --align.objective.params margin 1 --no-ray",
    ],
)
def test_a_right_command_is_not(command: str) -> None:
    assert fault(Shown("x.md", command, None)) is None


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("RAY_", "RAYPREF_"))]:
        monkeypatch.delenv(name)
    RUNNER["run_page"](page, tmp_path)
