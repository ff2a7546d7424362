"""The commands that pages show: where they stand, and what each would be refused for, without running it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from raypref.cli import COMMANDS
from raypref.commands import collect, dashboard, data, export, recommend, rescore, spot, submit
from raypref.commands.run import SingleRunOptions
from raypref.config import RunConfig
from raypref.config.loading import dump, leaves, load, merge, presets, validated
from raypref.data.sources import SOURCES
from raypref.objectives import OBJECTIVES
from raypref.sweeps.benchmark import BenchmarkOptions
from raypref.sweeps.options import SweepOptions
from raypref.sweeps.replicate import ReplicateOptions

CHECKOUT = Path(__file__).parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
NEEDS = re.compile(r"\s+# needs: (gpu|network|cluster)$")
PAGE_NEEDS = re.compile(r"<!-- commands need: (gpu|network|cluster) -->")
OURS = ("raypref", "python", "python3", "make", "pytest")
THEIRS = {"pip", "ray", "sbatch", "kubectl", "docker", "vllm", "hf", "curl", "prometheus", "optuna-dashboard"}
"""Tools of others. They need a cluster, a network or a GPU, and must say so, but for these, which need neither:"""
HARMLESS = {"pip", "ray", "prometheus", "optuna-dashboard", "printf", "cat", "ls", "sed", "head", "export", "git", "."}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:raypref|python|pytest|make) [^`]+)`(?!`)")


@dataclasses.dataclass(frozen=True)
class Shown:
    """A command on a page."""

    page: str
    text: str
    """In one line, without comment and environment."""
    needs: str | None
    """gpu, network or cluster; None: it runs anywhere."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def commands(page: Path) -> Iterator[Shown]:
    """The commands of a page: all lines of `sh` blocks, what begins with a tool's name in indented blocks, and what
    begins with one of ours in running text.
    """
    text = page.read_text(encoding="utf-8")
    whole = PAGE_NEEDS.search(text)
    fenced = [body for language, body in FENCE.findall(text) if language in ("sh", "bash", "console")]
    rest = FENCE.sub("", text)
    inline = [" ".join(found.split()) for found in INLINE.findall(re.sub(r"^ {4}.*$", "", rest, flags=re.MULTILINE))]
    indented = re.findall(r"(?:^(?: {4}.*)\n?)+", rest, flags=re.MULTILINE)
    for body, strict in [*((f, True) for f in fenced), *((i, False) for i in [*indented, *inline])]:
        body = re.sub(r"<<'(\w+)'\n.*?^\1$", "", body, flags=re.MULTILINE | re.DOTALL)
        for line in body.replace("\\\n", " ").splitlines():
            marked = NEEDS.search(line)
            needs = marked[1] if marked else (whole[1] if whole else None)
            for part in re.split(r"\s+(?:\|\||&&|\|)\s+|;\s*", _plain(NEEDS.sub("", line))):
                first = part.split(" ", 1)[0]
                if first and (strict or first in {*OURS, *THEIRS, *HARMLESS}):
                    yield Shown(page.name, part, needs)


def _plain(line: str) -> str:
    """Without comment, substitution and leading variables."""
    line = re.sub(r"(^|\s)#.*$", "", line.strip())
    line = re.sub(r'"?\$\([^)]*\)"?', "PLACE", line)
    while found := re.match(r"[A-Z_]+=\S+\s+", line):
        line = line[found.end() :]
    return line.strip()


def fault(shown: Shown) -> str | None:
    """Why the command would be refused, None if nothing speaks against it."""
    words = shown.words
    if words[0] not in {*OURS, *THEIRS, *HARMLESS}:
        return f"what is {words[0]}?"
    if words[0] not in {*OURS, *HARMLESS} and shown.needs is None:
        return "mark it: `# needs: gpu`, network or cluster"
    if words[:3] == ["ray", "job", "submit"]:
        words = words[words.index("--") + 1 :]
    if words[0] == "sbatch":
        words = ["raypref", "submit", *words[2:]]
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE)
        unknown = [w for w in words[1:] if "=" not in w and w not in targets]
        return f"no target {unknown[0]}" if unknown else None
    if words[0] == "raypref":
        return _raypref(words[1:])
    if words[0] in ("python", "python3", "pytest"):
        return _python(words)
    return None


def _python(words: list[str]) -> str | None:
    if words[0] == "pytest" or words[1:3] == ["-m", "pytest"]:
        named = [w for w in words if w.startswith("tests/")]
        return next((f"there is no {w}" for w in named if not (CHECKOUT / w.split("::")[0]).exists()), None)
    if words[1] == "-m":
        module = CHECKOUT / (words[2].replace(".", "/") + ".py")
        return None if words[2] in ("venv", "pip") else _flags_in_text(module, words[3:])
    script = CHECKOUT / words[1]
    return _job(script, words[2:]) if script.parent.name == "jobs" else _flags_in_text(script, words[2:])


def _flags_in_text(script: Path, arguments: list[str]) -> str | None:
    """Of a script with options of its own, and perhaps the config's keys."""
    if not script.is_file():
        return f"there is no {script.relative_to(CHECKOUT)}"
    text = script.read_text(encoding="utf-8")
    known = _keys("tiny", None, None) | {"--preset"} if "RunOptions" in text else set()
    return next((f"{script.name} has no {a}" for a in _flags(arguments) if a not in text and a not in known), None)


def _raypref(words: list[str]) -> str | None:
    if words[0] not in COMMANDS:
        return f"raypref has no command {words[0]}"
    if words[0] == "submit":
        scripts = [w for w in words[1:] if w.endswith(".py")]
        first = words.index(scripts[0]) if scripts else 1
        faults = [_unknown(words[1:first], _fields(submit.Submit))]
        faults += [_job(CHECKOUT / script, words[first + len(scripts) :]) for script in scripts]
        return next(filter(None, faults), None)
    if words[0] == "data":
        if words[1] not in data.COMMANDS:
            return f"raypref data has no command {words[1]}"
        return _unknown(words[2:], _parameters(data.COMMANDS[words[1]]))
    with_config = {"run": SingleRunOptions, "recommend": recommend.RecommendOptions, "rescore": rescore.RescoreOptions}
    if words[0] in with_config:
        return _configured(words[1:], with_config[words[0]])
    plain: dict[str, Callable[..., Any]] = {
        "collect": collect.collect, "plot": collect.plot, "dashboard": dashboard.dashboard, "export": export.Export,
        "watch-spot": spot.WatchSpot,
    }  # fmt: skip
    return _unknown(words[1:], _parameters(plain[words[0]])) if words[0] in plain else None


def _job(script: Path, arguments: list[str]) -> str | None:
    if script.name == "NAME.py":
        return None
    if not script.is_file():
        return f"there is no job {script.name}"
    kinds = {"benchmark": BenchmarkOptions, "replicate": ReplicateOptions}
    objective = None
    if script.stem not in kinds:
        objective = yaml.safe_load((CHECKOUT / "sweeps" / f"{script.stem}.yaml").read_text()).get("objective")
    return _configured(arguments, kinds.get(script.stem, SweepOptions), objective)


def _configured(arguments: list[str], options: type, objective: str | None = None) -> str | None:
    """Of a command whose options are its own and every key of the config that preset, data and objective give."""
    given = {flag: value for flag, value in zip(arguments, [*arguments[1:], ""]) if flag.startswith("--")}
    default = next(f.default for f in dataclasses.fields(options) if f.name == "preset")
    preset = given.get("--preset", default)
    dataset, named = given.get("--dataset"), given.get("--objective", given.get("--method", objective))
    if preset not in presets():
        return f"no preset {preset}"
    if dataset not in (None, *SOURCES, *_studied()):
        return f"no data set {dataset}"
    if named not in (None, "custom", *OBJECTIVES):
        return f"no objective {named}"
    keys = _keys(preset, dataset, named, given.get("--transfer-dataset"))
    return _unknown(arguments, _fields(options) | {"--method", "--help"} | keys)


def _studied() -> list[str]:
    return [path.stem for path in (CHECKOUT / "sweeps" / "replicate" / "data").glob("*.yaml")]


@functools.cache
def _keys(preset: str, dataset: str | None, objective: str | None, transfer: str | None = None) -> set[str]:
    content = dump(load(preset)[0])
    if dataset in SOURCES:
        content = merge(content, {"data": {"source": {"kind": dataset}}})
    if transfer in SOURCES:
        content["transfer"] = merge(content["data"], {"source": {"kind": transfer}})
    if objective is not None:
        content = merge(content, {"align": {"objective": {"name": objective}}})
    config = validated(RunConfig, content, preset)
    keys = {_flag(key) for key, _ in leaves(dump(config))} | set(_of_model(config))
    return keys | {f"--{'.'.join([*k[2:].split('.')[:-1], 'no-' + k.split('.')[-1].lstrip('-')])}" for k in keys}


def _of_model(model: BaseModel, prefix: str = "") -> Iterator[str]:
    """Keys that are empty mappings or None in a dump are keys too."""
    for name, field in type(model).model_fields.items():
        value, key = getattr(model, name), f"{prefix}{field.alias or name}"
        yield _flag(key)
        if isinstance(value, BaseModel):
            yield from _of_model(value, f"{key}.")


def _fields(options: type) -> set[str]:
    names = [f.name for f in dataclasses.fields(options)]
    return {_flag(name) for name in names} | {f"--no-{name.replace('_', '-')}" for name in names}


def _parameters(function: Callable[..., Any]) -> set[str]:
    if dataclasses.is_dataclass(function):
        return _fields(function)  # type: ignore[arg-type]
    found = set()
    for parameter in inspect.signature(function, eval_str=False).parameters.values():
        found.add(_flag(parameter.name))
        if isinstance(parameter.default, BaseModel):
            found |= set(_of_model(parameter.default, f"{parameter.name}."))
    return found


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _flags(arguments: list[str]) -> list[str]:
    return [a.split("=")[0] for a in arguments if a.startswith("--") and a != "--"]


def _unknown(arguments: list[str], known: set[str]) -> str | None:
    return next((f"no option {a}" for a in _flags(arguments) if a.replace("_", "-") not in known), None)
