"""Every command on a page is read by its own parser, and each that stands in a block is run, or says what it needs.

Run are the blocks marked `<!-- run -->`, as they stand, and commands that another test runs with small settings.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from raypref.commands import adapt, recommend, rescore
from raypref.sweeps import benchmark, job, replicate
from tests.support.forked_shell import forked_programs
from tests.support.nodes import PATIENCE
from tests.support.own_parsers import fault
from tests.support.page_commands import PAGES, SHELL, Shown, commands, files_written
from tests.support.processes import CHECKOUT

pytestmark = pytest.mark.docs
RUNNER = runpy.run_path(str(CHECKOUT / "docs" / "scripts" / "run_page.py"))
RUN = [page for page in PAGES if RUNNER["blocks"](page)]
ALL = [shown for page in PAGES for shown in commands(page)]
ON_RAY = "tests/jobs/test_sweeps_on_ray.py"
SMALL = {
    r"make sweeps?\b.*|raypref submit jobs/\w+\.py": (
        "tests/cluster/test_dead_head.py::test_the_head_dies_and_the_jobs_are_submitted_again"
    ),
    r"python jobs/sweep_\w+\.py --dry-run": "tests/jobs/test_all_sweeps.py::test_dry_run",
    r"python jobs/sweep_\w+\.py( --(values|seeds) [\d. ]+)?": "tests/jobs/test_sweep_job.py::sweep",
    r"python jobs/sweep_lambda\.py --dataset csv .*": "tests/jobs/test_sweep_job.py::first",
    r"python jobs/sweep_joint\.py --add-trials \d+": f"{ON_RAY}::test_a_joint_search_is_extended",
    r"raypref data list": "tests/data/test_data_commands.py::test_list_tells_what_is_here",
    r"raypref dashboard": "tests/jobs/test_prometheus.py::test_the_files_that_raypref_dashboard_writes",
    r"prometheus --config.file=.*": "tests/jobs/test_prometheus.py::test_two_trials_hr_at_1_by_tag",
    r"raypref rescore .*": (
        "tests/commands/test_recommend_and_rescore.py::test_popularity_s_own_counts_rescore_as_popularity"
    ),
    r"raypref export RUN .*": "tests/stages/test_export_model.py::test_an_adapter_is_written_alone_or_merged",
    r"python docs/scripts/run_page\.py .*": "tests/docs/test_pages.py::test_the_page_runs",
}
"""Commands in blocks that a test runs with small settings."""
HELPS = [
    f"sweep {job.EXAMPLES.format(name='sweep_lambda', more='')}",
    f"benchmark {benchmark.EXAMPLES}",
    f"study {replicate.DESCRIPTION.format(studies='', datasets='')}",
    f"adapt {adapt.DESCRIPTION}",
    f"recommend {recommend.DESCRIPTION}",
    f"rescore {rescore.DESCRIPTION}",
]
TESTS = re.compile(r"make (test|measures|ray|cluster|pages)|(python -m )?pytest .*")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_read_by_its_own_parser(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RUNNER["LINKED"]:
        (tmp_path / name).symlink_to(CHECKOUT / name)
    for name, content in files_written(page).items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    faults = [f"{shown.text}: {why}" for shown in commands(page) if (why := fault(shown)) is not None]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_or_says_what_it_needs(page: Path) -> None:
    left = [shown.text for shown in commands(page) if not accounted(shown)]
    assert not left, "neither run by a test nor marked `# needs: ...`:\n" + "\n".join(left)


def accounted(shown: Shown) -> bool:
    """Whether a command in a block is run by a test, or marked; running text only names commands."""
    if shown.where != "block" or shown.words[0] in SHELL:
        return True
    known = any(re.fullmatch(pattern, shown.text) for pattern in (TESTS, *SMALL))
    return known or shown.needs is not None


@pytest.mark.parametrize("test", dict.fromkeys(SMALL.values()))
def test_the_small_runs_are_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}" in (CHECKOUT / path).read_text()


def test_pages_show_commands_at_all() -> None:
    assert len(ALL) > 80
    assert {shown.page for shown in ALL} >= {"README.md", "tutorial.md", "sweeps.md", "data.md", "results.md"}
    assert {shown.where for shown in ALL} == {"run", "block", "inline"}
    assert {shown.needs for shown in ALL} == {None, "gpu", "network", "cluster", "data", "time"}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("python jobs/sweep_lamda.py", "there is no"),
        ("python jobs/sweep_lambda.py --preset tyni", "no preset is called 'tyni'"),
        ("python jobs/sweep_lambda.py --align.max-stpes 3", "--align.max-stpes"),
        ("python jobs/sweep_lambda.py --seeds three", "three"),
        ("python jobs/sweep_joint.py --values 0 1", "--values is for sweeps over one key"),
        ("python jobs/sweep_beta.py --align.objective.tau 1", "--align.objective.tau"),
        ("python jobs/replicate.py --study mian", "did you mean 'main'"),
        ("python jobs/benchmark.py --methods 3 --sedes 2", "--sedes"),
        ("raypref submit jobs/sweep_rho.py --limt 2", "--limt"),
        ("raypref submit jobs/sweep_roh.py", "there is no"),
        ("make sweep ARGS='--sedes 5'", "--sedes"),
        ("raypref exprot RUN", "no command is called"),
        ("raypref export RUN --too x", "--too"),
        ("raypref data show ml-1m --cut.kcore 3", "--cut.kcore"),
        ("raypref data show ml-1x", "no data set is called"),
        ("raypref run --align.negatives few", "few"),
        ("python benchmarks/engine.py --lra 8", "--lra"),
        ("python -m raypref.pretraining.tiny --where x", "--where"),
        ("pytest tests/nothing.py", "there is no"),
        ("pytest -m cluster tests/cluster -k nonesuch", "no test is called nonesuch"),
        ("make swep", "swep"),
        ("frobnicate", "what is"),
    ],
)
def test_a_wrong_command_is_found(command: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    assert why in (fault(Shown("x.md", command)) or "")


@pytest.mark.parametrize("text", HELPS, ids=lambda text: text.split()[0])
def test_the_examples_of_a_help_are_read_too(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    found = re.findall(r"^  (?:\w.* \| )?((?:python|raypref|ray job) .*)$", text, re.MULTILINE)
    shown = [Shown("help", line) for line in found]
    assert shown
    faults = [f"{example.text}: {why}" for example in shown if (why := fault(example)) is not None]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("vllm serve my-model", False),
        ("vllm serve my-model   # needs: gpu", True),
        ("python jobs/sweep_lambda.py --preset llama3-8b-lora", False),
        ("python jobs/sweep_lambda.py --seeds 4", True),
        ("raypref data show ml-1m", False),
        ("raypref data show ml-1m   # needs: data", True),
        ("raypref data show ml-1m   # needs: patience", False),
    ],
)
def test_an_unmarked_command_is_found(line: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text(f"# X\n\n    {line}\n")
    (shown,) = commands(tmp_path / "x.md")
    assert accounted(shown) == found


@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `python` and `raypref` are forked from one process that has imported what they need."""
    for name in [name for name in os.environ if name.startswith(("RAY_", "RAYPREF_"))]:
        monkeypatch.delenv(name)
    with forked_programs() as folder:
        monkeypatch.setattr(sys, "executable", str(folder / "python"))
        RUNNER["run_page"](page, tmp_path)


def test_a_page_whose_command_fails_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "x.md"
    page.write_text("<!-- run -->\n```sh\npython -c 'print(1)' | tee one\nraypref --version > two\nraypref x\n```\n")
    with forked_programs() as folder:
        monkeypatch.setattr(sys, "executable", str(folder / "python"))
        with pytest.raises(subprocess.CalledProcessError, match="status 2"):
            RUNNER["run_page"](page, tmp_path)
    assert (tmp_path / "one").read_text() == "1\n"
    assert (tmp_path / "two").read_text().startswith("raypref ")
