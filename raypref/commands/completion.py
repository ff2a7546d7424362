"""`raypref --install-completion`: commands and options at the press of the tab key, in bash, zsh and fish.

The words are those of each command's own `--help`, gathered once; completing imports nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raypref.config.base import lookup
from raypref.errors import UserError

OPTION = re.compile(r"(?<![\w-])--[a-zA-Z][\w.-]*\w")
WIDE = "400"
"""Columns of the help that is read, so that no option breaks over a line."""

Words = dict[str, list[str]]
"""By command (`run`, `data show` ...): its options, or a group's subcommands."""


def install_completion(arguments: list[str], commands: list[str]) -> int:
    """Write the script of a shell where it looks for it, and say so; the exit code.

    Args:
        arguments: the shell's name, or nothing for that of $SHELL.
        commands: the commands to complete.

    Raises:
        UserError: no such shell is known, or its folder can't be written.
    """
    if any(a in ("-h", "--help") for a in arguments):
        print("usage: raypref --install-completion [bash|zsh|fish]\nBy default for the shell of $SHELL.")
        return 0
    shell = arguments[0] if arguments else Path(os.environ.get("SHELL", "bash")).name
    script, where, then = lookup(shell, SHELLS, "shell that can be completed")
    path = Path.home() / where
    text = script(words_of(commands))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"the script can't be written: {error.strerror}", where=str(path)) from error
    print(f"completion for {shell}: {path}\n{then}")
    return 0


def words_of(commands: list[str]) -> Words:
    """What each command's help names, by asking all of them."""
    from raypref.commands.data import COMMANDS as DATA
    from raypref.commands.model import COMMANDS as MODEL

    groups = {"data": list(DATA), "model": list(MODEL)}
    single = [name for name in commands if name not in groups]
    single += [f"{group} {name}" for group, names in groups.items() for name in names]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = pool.map(_help, single)
    words = {name: sorted({"--help", *OPTION.findall(text)}) for name, text in zip(single, texts)}
    return {"": [*commands, "--help", "--version", "--install-completion"], **groups, **words}


def _help(command: str) -> str:
    asked = [sys.executable, "-m", "raypref.cli", *command.split(), "--help"]
    return subprocess.run(asked, env={**os.environ, "COLUMNS": WIDE}, capture_output=True, text=True, check=True).stdout


def bash(words: Words) -> str:
    """Complete by a case of the command; what is no option is a file."""
    cases = "\n".join(f'    "{name}") words="{" ".join(each)}" ;;' for name, each in words.items())
    return f"""# Written by `raypref --install-completion bash`.
_raypref() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" command="" words=""
  [ "$COMP_CWORD" -gt 1 ] && command="${{COMP_WORDS[1]}}"
  case "$command" in data|model) [ "$COMP_CWORD" -gt 2 ] && command="$command ${{COMP_WORDS[2]}}" ;; esac
  case "$command" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [ "$COMP_CWORD" -gt 1 ] && [ "${{current:0:1}}" != - ] && COMPREPLY+=($(compgen -f -- "$current"))
  return 0
}}
complete -o filenames -F _raypref raypref
"""


def zsh(words: Words) -> str:
    """The same for zsh's own completion system."""
    cases = "\n".join(f'    "{name}") known=({" ".join(each)}) ;;' for name, each in words.items())
    return f"""#compdef raypref
# Written by `raypref --install-completion zsh`.
_raypref() {{
  local command="" known=()
  (( CURRENT > 2 )) && command="${{words[2]}}"
  [[ "$command" == (data|model) ]] && (( CURRENT > 3 )) && command="$command ${{words[3]}}"
  case "$command" in
{cases}
  esac
  compadd -- $known
  (( CURRENT > 2 )) && [[ "$PREFIX" != -* ]] && _files
}}
_raypref "$@"
"""


def fish(words: Words) -> str:
    """A line for each word, under the condition that its command stands before it."""
    lines = ["# Written by `raypref --install-completion fish`."]
    for name, each in words.items():
        seen = " && ".join(f"__fish_seen_subcommand_from {word}" for word in name.split()) or "__fish_use_subcommand"
        for word in each:
            kind = f"-l {word[2:]}" if word.startswith("--") else f"-f -a {word}"
            lines.append(f"complete -c raypref -n '{seen}' {kind}")
    return "\n".join(lines) + "\n"


SHELLS = {
    "bash": (bash, ".local/share/bash-completion/completions/raypref", "It is there in the next shell."),
    "zsh": (zsh, ".zfunc/_raypref", "If ~/.zshrc lacks them, add: fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
    "fish": (fish, ".config/fish/completions/raypref.fish", "It is there in the next shell."),
}
"""By name: how its script is made, where it lies under the home folder, and what is left to do."""
