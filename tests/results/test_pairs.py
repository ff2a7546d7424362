"""Two trials side by side: hand-worked wins and differences, what their configs differ in, the command, the page."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raypref.commands.compare import compare, find
from raypref.commands.watch import Page, newest, serve, watch
from raypref.errors import UserError
from raypref.results.collect import collect
from raypref.results.lineage import config_of, data_facts, differing, stages
from raypref.results.pairs import differences, page_data, sample_examples
from raypref.results.report import report_html
from raypref.storage.headway import tell, telling
from raypref.storage.location import Location
from raypref.storage.store import Address, Store
from tests.support.planted_sweeps import LAMBDA, sweep


def rows(hits: list[float], examples: list[int] | None = None) -> pa.Table:
    numbers = examples or list(range(len(hits)))
    return pa.table({"example": numbers, "user": numbers, "exact_hr@1": pa.array(hits, from_pandas=True)})


def test_wins_losses_and_the_paired_difference_by_hand() -> None:
    (found,) = differences(rows([0, 0, 1, 1, 0]), rows([1, 0, 0, 1, 1]))
    assert (found.wins, found.losses, found.ties) == (2, 1, 2)
    assert (found.first, found.second) == (0.4, 0.6)
    assert found.test.difference == pytest.approx(0.2)
    assert found.test.low < 0.2 < found.test.high


def test_only_examples_that_both_have_count() -> None:
    (found,) = differences(rows([1, 1, 0], [3, 1, 2]), rows([0, 1, 1], [1, 2, 9]))
    assert (found.wins, found.losses, found.ties) == (1, 1, 0)  # example 1: 1 to 0; example 2: 0 to 1
    (found,) = differences(rows([float("nan"), 1, 0]), rows([1, 0, 0]))
    assert (found.wins, found.losses, found.ties) == (0, 1, 1)


def test_samples_are_those_that_tell_trials_apart() -> None:
    assert sample_examples([rows([0, 1, 1, 0]), rows([0, 0, 1, 1])], "exact_hr@1", 2) == [1, 3]


def test_configs_differ_where_they_do() -> None:
    assert differing([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}]) == {"b": [2, 3], "c": [None, 4]}


def manifest(
    root: Path, address: str, config: dict[str, Any], *inputs: str, facts: dict[str, Any] | None = None
) -> None:
    folder = root / address
    folder.mkdir(parents=True, exist_ok=True)
    content = {"config": config, "inputs": {i.split("/")[0]: i for i in inputs}, "facts": facts or {}}
    (folder / "_SUCCESS").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted sweep whose stages have manifests."""
    root = tmp_path_factory.mktemp("pairs")
    found = sweep(
        root, {LAMBDA: [0, 2]}, {LAMBDA: 2}, lambda p, seed: 0.2 + p[LAMBDA] / 4, seeds=1, users=40, logs=True
    )
    manifest(root, "prepare/p-000000000001", {"k_core": 5}, facts={"users": 1234, "items": 5, "interactions": 6})
    manifest(root, "sft/s-000000000002", {"steps": 3}, "prepare/p-000000000001")
    for path in (found / "trials").glob("*.json"):
        record = json.loads(path.read_text())
        value = record["params"][LAMBDA]
        manifest(root, record["align"], {"objective": {"lambda": value}}, "sft/s-000000000002")
        manifest(root, record["evaluate"], {"generate": True}, record["align"], "prepare/p-000000000001")
    return found


def trials(folder: Path) -> list[dict[str, Any]]:
    return sorted((json.loads(p.read_text()) for p in (folder / "trials").glob("*.json")), key=lambda r: r["label"])


def test_what_a_trial_was_computed_from_is_read_back(folder: Path) -> None:
    root, (first, second) = Location.of(folder.parent.parent), trials(folder)
    assert set(stages(root, first["evaluate"])) == {"evaluate", "align", "sft", "prepare"}
    configs = [config_of(root, trial["evaluate"]) for trial in (first, second)]
    assert configs[0]["prepare.k_core"] == 5
    assert differing(configs) == {"align.objective.lambda": [0, 2]}
    assert data_facts(root, first["evaluate"]) == {"users": 1234, "items": 5, "interactions": 6}


def test_the_command_says_all_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = trials(folder)
    assert compare(first["label"], second["trial"], root=str(folder.parent.parent)) == 0
    said = capsys.readouterr().out
    assert "align.objective.lambda" in said
    row = next(line for line in said.splitlines() if line.startswith("│ exact HR@1"))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert float(cells[2]) - float(cells[1]) == pytest.approx(float(cells[3]), abs=0.0011)
    assert sum(map(int, cells[6:])) == 40
    assert said.count("  A: ") == said.count("  B: ") == 5


def test_names_are_found_and_mistakes_are_near(folder: Path) -> None:
    store, first = Store(folder.parent.parent), trials(folder)[0]
    for name in (first["label"], first["trial"], first["evaluate"]):
        assert find(store, name) == first["evaluate"]
    with pytest.raises(UserError, match="no trial or run is called"):
        find(store, first["label"] + "x")


def test_the_page_has_each_trial_s_outcomes_by_example(folder: Path) -> None:
    collection = collect(folder)
    data = page_data(collection, "test", "../..")
    assert "align.objective.lambda" in data["keys"]
    evaluations = {trial["trial"]: trial["evaluate"] for trial in trials(folder)}
    for trial in data["trials"]:
        assert len(trial["outcomes"]) == 40
        assert trial["outcomes"].count("1") / 40 == pytest.approx(trial["scores"][data["metric"]])
        assert len(trial["answers"]) == len(data["samples"])
        if trial["id"] != "sft":
            assert trial["links"][0][1] == f"../../{evaluations[trial['id']]}/_SUCCESS"
    text = report_html(collection, links="../..")
    assert 'id="compare-data"' in text
    assert "<dt>users</dt><dd>1,234</dd>" in text
    assert len(data["trials"]) == 3


def test_watch_serves_the_report_and_follows_a_running_trial(tmp_path: Path) -> None:
    found = sweep(tmp_path, {LAMBDA: [0, 2]}, {LAMBDA: 2}, lambda p, seed: 0.3, seeds=1, users=20, logs=True)
    record_path = next((found / "trials").glob("*.json"))
    record = json.loads(record_path.read_text())
    align = Address("align", "t", "0123456789ab")
    record_path.write_text(json.dumps(record | {"status": "running", "stages": [str(align)]}))
    store = Store(tmp_path)
    assert newest(store) == found
    server = serve(Page(store, found), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def page(path: str = "/", **headers: str) -> tuple[str, Any]:
        asked = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", headers=headers)
        with direct.open(asked, timeout=60) as answer:
            return answer.read().decode(), answer.headers

    try:
        with telling(store, align):
            tell(30, 60, "step", loss=0.5)
            text, headers = page()
            assert "step 30/60, loss 0.500" in text
            assert headers["Refresh"]
        record_path.write_text(json.dumps(record))
        text, _ = page()
        assert "step 30/60" not in text
        assert text.count('data-state="done"') == 3
        for wrong in ("/../../etc/passwd", "/sweeps", f"/{record['evaluate']}/rows.parquet"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                page(wrong)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            page(Host="elsewhere.example")
    finally:
        server.shutdown()
        server.server_close()
    assert server.server_address[0] == "127.0.0.1"


def test_there_may_be_nothing_to_watch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sweep yet"):
        newest(Store(tmp_path))
    with pytest.raises(UserError, match="no sweep and no run"):
        watch(tmp_path / "nosuch")
