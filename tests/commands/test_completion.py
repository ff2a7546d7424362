"""`raypref --install-completion`: the words of each command's help, where each shell looks for them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raypref.cli import COMMANDS
from raypref.commands import completion
from raypref.errors import UserError
from tests.support.processes import environment

WORDS = {"": ["run", "data", "--help"], "data": ["show", "list"], "data show": ["--help", "--path"], "run": ["--root"]}


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    line = " ".join(f"'{word}'" for word in words)
    program = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _raypref; echo ${{COMPREPLY[@]}}"
    asked = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, cwd=script.parent)
    return asked.stdout.split()


def test_bash_completes_commands_options_and_files(tmp_path: Path) -> None:
    script = tmp_path / "raypref"
    script.write_text(completion.bash(WORDS))
    (tmp_path / "mine.yaml").touch()
    assert complete(script, "raypref", "r") == ["run"]
    assert complete(script, "raypref", "data", "s") == ["show"]
    assert complete(script, "raypref", "data", "show", "--p") == ["--path"]
    assert complete(script, "raypref", "run", "--") == ["--root"]
    assert complete(script, "raypref", "run", "--config", "m") == ["mine.yaml"]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_reads_its_script(shell: str, tmp_path: Path) -> None:
    text = completion.SHELLS[shell][0](WORDS)
    for word in ("run", "show", "root", "path"):
        assert word in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    script = tmp_path / "raypref"
    script.write_text(text)
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.docs  # asks every command for its help
def test_it_knows_every_command_and_its_options(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raypref.cli", "--install-completion", "bash"]
    own = environment(tmp_path) | {"HOME": str(tmp_path)}
    said = subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout
    script = tmp_path / ".local/share/bash-completion/completions/raypref"
    assert str(script) in said
    offered = complete(script, "raypref", "")
    assert set(COMMANDS) - {"install-completion"} <= set(offered)
    assert "--align.objective.lambda" in complete(script, "raypref", "run", "--align.objective.l")
    assert set(complete(script, "raypref", "data", "")) >= {"list", "download", "show", "audit", "export"}
    assert "--out" in complete(script, "raypref", "collect", "--o")


def test_another_shell_is_refused() -> None:
    with pytest.raises(UserError, match="no shell that can be completed is called 'zshh'") as caught:
        completion.install_completion(["zshh"], [])
    assert "did you mean 'zsh'" in caught.value.hint
