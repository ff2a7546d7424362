"""An objective in a user's own file: through the real chain, by an entry in the config alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raypref.config import RunConfig
from raypref.config.loading import load, override
from raypref.errors import UserError
from raypref.stages.chain import chain
from raypref.storage.store import Store
from raypref.sweeps.methods import method_changes
from raypref.sweeps.options import RunOptions, parse
from tests.support.processes import CHECKOUT
from tests.support.shared_store import copied, made
from tests.support.tiny_chain import TINY, run

DOCS = CHECKOUT / "docs"
SDPO = """
import torch
from torch.nn.functional import logsigmoid
from raypref.objectives import ObjectiveOutput

def mine(batch, params, state):
    state["calls"] = state.get("calls", torch.zeros(())) + 1
    pos = batch.policy_logps_pos - batch.ref_logps_pos
    neg = batch.policy_logps_neg - batch.ref_logps_neg
    return ObjectiveOutput(-logsigmoid(-torch.logsumexp(params.beta * (neg - pos[:, None]), dim=1)), {})
"""


def with_objective(**objective: Any) -> RunConfig:
    return override(TINY, {"align.objective": {"name": "custom", **objective}}, "test")


def losses(store: Store, config: RunConfig) -> list[float]:
    folder = store.path(chain(config).align.address)
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_s_own_sdpo_trains_as_raypref_s_does(shared_store: Store, tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text(SDPO)
    own = with_objective(file=str(tmp_path / "loss.py"), function="mine", params={"beta": 0.5})
    theirs = override(TINY, {"align.objective": {"name": "sdpo", "beta": 0.5}}, "test")
    store = copied(made(theirs, shared_store), shared_store, tmp_path / "results")
    _, worked = run(own, store)
    assert worked == ["align", "evaluate"]
    assert losses(store, own) == pytest.approx(losses(store, theirs), rel=1e-5)
    assert losses(store, own) != pytest.approx([losses(store, own)[0]] * 6, rel=1e-5)
    (tmp_path / "loss.py").unlink()  # what was read travels in the config
    assert chain(RunConfig.model_validate_json(own.model_dump_json(by_alias=True))).align == chain(own).align


def test_the_address_follows_the_text_and_the_numbers(tmp_path: Path) -> None:
    def address(text: str, name: str, beta: float) -> str:
        (tmp_path / name).write_text(text)
        own = with_objective(file=str(tmp_path / name), function="mine", params={"beta": beta})
        return chain(own).align.address.key

    first = address(SDPO, "a.py", 1)
    assert first == address(SDPO, "b.py", 1)
    assert len({first, address(SDPO + "\n# two", "a.py", 1), address(SDPO, "a.py", 2)}) == 3


def test_the_page_s_example_is_the_file_and_learns(shared_store: Store) -> None:
    text = (DOCS / "examples" / "hinge.py").read_text()
    assert text.strip() in (DOCS / "own_objective.md").read_text()
    assert len(text.splitlines()) < 30
    config = with_objective(file=str(DOCS / "examples" / "hinge.py"), params={"margin": 1.0})
    made(config, shared_store)
    assert losses(shared_store, config)[0] == pytest.approx(1.0, abs=1e-5)  # the policy is its own reference
    swept = override(config, {"align.objective.params.margin": 2.0}, "sweep")
    assert swept.align.objective.params == {"margin": 2.0}  # type: ignore[union-attr]
    assert chain(swept).align.address != chain(config).align.address


def test_an_entry_in_a_config_file_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page has it: beside the file, in any folder; and as a method of a benchmark."""
    monkeypatch.chdir(tmp_path)
    Path("loss.py").write_text(SDPO)
    Path("mine.yaml").write_text(
        "align: {objective: {name: custom, file: loss.py, function: mine, params: {beta: 0.5}}}\n"
    )
    filed = load("smoke", Path("mine.yaml"))[0]
    typed = "--preset smoke --objective custom --align.objective.file loss.py --align.objective.function mine"
    _, config, _ = parse(RunOptions, [*typed.split(), *"--align.objective.params beta 0.5".split()], "")
    assert chain(filed).align == chain(config).align
    as_method = {name: override(filed, method_changes(name, filed), "test") for name in ("custom", "sdpo", "sft")}
    assert chain(as_method["custom"]).align == chain(filed).align
    assert as_method["sdpo"].align.objective.name == "sdpo"
    assert as_method["sft"].system == "sft"
    with pytest.raises(UserError, match="no file for the custom objective"):
        chain(override(TINY, method_changes("custom", TINY), "test"))


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (None, {}, "can't be read"),
        ("def loss(:", {}, "no Python"),
        ("def other(a, b, c): pass", {}, "no function 'loss'; its functions: other"),
        ("import nowhere\ndef loss(a, b, c): pass", {}, "can't be loaded: ModuleNotFoundError"),
        ("def loss(a, b, c): pass", {"reads": ["rating_pso"]}, "no column 'rating_pso'"),
    ],
)
def test_mistakes_are_known_before_anything_runs(
    tmp_path: Path, text: str | None, settings: dict[str, Any], message: str
) -> None:
    if text is not None:
        (tmp_path / "loss.py").write_text(text)
    with pytest.raises(UserError, match=message):
        chain(with_objective(file=str(tmp_path / "loss.py"), **settings))


def test_no_file_is_a_mistake_too() -> None:
    with pytest.raises(UserError, match="no file for the custom objective"):
        chain(with_objective())


def test_a_loss_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text(SDPO.replace("{})", "{})._replace(losses=pos.mean())"))
    with pytest.raises(UserError, match=r"losses of shape \(\)"):
        run(with_objective(file=str(tmp_path / "loss.py"), function="mine", params={"beta": 1}), Store(tmp_path / "r"))
