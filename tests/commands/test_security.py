"""What the package must never do: run what data say, hand strings to a shell, write a secret down."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from raypref.commands.submit import submission
from raypref.errors import UserError
from raypref.models import backbone
from raypref.provenance import masked, provenance
from raypref.storage.store import Store, write_json
from raypref.sweeps.job import run
from tests.support.processes import CHECKOUT
from tests.support.shared_store import copied, made
from tests.support.tiny_chain import TINY
from tests.support.tiny_chain import run as run_chain

SOURCES = sorted(path for folder in ("raypref", "jobs") for path in (CHECKOUT / folder).rglob("*.py"))
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
UNPICKLES = {"pickle.load", "pickle.loads", "pickle.Unpickler", "pandas.read_pickle", "pd.read_pickle", "joblib.load"}
RESTRICTED = "raypref/data/sources/frame_pickle.py"  # builds no object that a pickle names; has tests of its own
SECRETS = ("WANDB_API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Each call of the package: its file and line, the dotted name of what is called."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(CHECKOUT)}:{node.lineno}", ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}


def test_no_text_is_run_and_no_shell_is_asked() -> None:
    found = [f"{where} {name}" for where, name, call in calls() if name in RUNS_TEXT | SHELLS]
    found += [f"{where} {name}" for where, name, call in calls() if keywords(call).get("shell", "False") != "False"]
    found += [f"{where} {name}" for where, name, call in calls() if "trust_remote_code" in keywords(call)]
    assert not found


def test_only_plain_values_are_loaded() -> None:
    found = []
    for where, name, call in calls():
        given = keywords(call)
        bad = name in UNPICKLES and not where.startswith(RESTRICTED)
        bad |= name == "torch.load" and given.get("weights_only") != "True"
        bad |= name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False"
        bad |= name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load")
        bad |= name.endswith("ForCausalLM.from_pretrained") and given.get("use_safetensors") != "True"
        if bad:
            found.append(f"{where} {name}")
    assert not found


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (Path.touch, (self.path,))


def test_a_pickle_in_a_model_s_folder_is_not_run(shared_store: Store, tmp_path: Path) -> None:
    plan = made(TINY, shared_store)
    store = copied(plan, shared_store, tmp_path / "root")
    folder = store.path(plan.align.address) / "model"
    (folder / "model.safetensors").unlink()
    torch.save({"evil": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    tokenizer = backbone.load_tokenizer(store.path(plan.tokenize.address) / "tokenizer")
    with pytest.raises(UserError, match="a trained model can't be read"):
        backbone.restore(TINY.model, tokenizer, folder)
    (tmp_path / "objective.pt").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "objective.pt", weights_only=True)
    assert not (tmp_path / "ran").exists()


def test_no_secret_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with results, not in what a job says, not in what is submitted."""
    for name in SECRETS:
        monkeypatch.setenv(name, f"sentinel-{name}")
    storage = "postgresql://user:sentinel-password@db/optuna"
    sweep = str(CHECKOUT / "sweeps/sweep_lambda.yaml")
    monkeypatch.setattr("sys.argv", ["jobs/sweep_lambda.py", "--storage", storage])
    provenance_of = provenance.__globals__["_fixed"]
    provenance_of.cache_clear()
    try:
        run_chain(TINY, Store(tmp_path / "root"))
        write_json(tmp_path / "root" / "provenance.json", provenance())
    finally:
        provenance_of.cache_clear()
    assert run(Path(sweep), ["--preset", "smoke", "--dry-run", "--root", str(tmp_path / "root")]) == 0
    Console().print(submission("http://127.0.0.1:8265", Path("jobs/sweep_lambda.py"), ["--preset", "smoke"]))
    written = b"".join(path.read_bytes() for path in (tmp_path / "root").rglob("*") if path.is_file())
    assert b"sweep_lambda.py" in written
    assert b"sentinel" not in written
    assert "sentinel" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--storage postgresql://me:secret@db/optuna", "--storage postgresql://me:***@db/optuna"),
        ("--chat.url https://user:p%40ss@host/v1 --x 1", "--chat.url https://user:***@host/v1 --x 1"),
        ("--storage sqlite:////shared/optuna.db", "--storage sqlite:////shared/optuna.db"),
        ("--root s3://bucket/a:b@c", "--root s3://bucket/a:b@c"),
        ("", ""),
    ],
)
def test_passwords_in_addresses_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_the_local_head_listens_on_loopback_and_wants_the_token() -> None:
    started = (CHECKOUT / "raypref/cluster/own_head.py").read_text()
    runtime = (CHECKOUT / "raypref/cluster/connect.py").read_text()
    assert '"--dashboard-host=127.0.0.1"' in started
    assert 'dashboard_host="127.0.0.1"' in runtime
    assert all('"RAY_AUTH_MODE"' in text and '"token"' in text for text in (started, runtime))
    assert all("setdefault(*ON_LOOPBACK)" in text for text in (started, runtime))
    assert "0.0.0.0" not in "".join(path.read_text() for path in SOURCES)


def test_what_a_job_passes_on_holds_no_key() -> None:
    from raypref.commands.submit import PASSED_ON

    assert not set(PASSED_ON) & set(SECRETS)
    assert not [name for name in PASSED_ON if name.endswith(("KEY", "TOKEN", "PASSWORD", "SECRET"))]
