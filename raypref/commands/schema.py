"""`raypref schema`: the config's JSON schema, by which editors complete and check a YAML file."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel

from raypref.config import RunConfig
from raypref.sweeps.benchmark import BenchmarkConfig
from raypref.sweeps.replicate import StudyConfig
from raypref.sweeps.space import SweepConfig, TuningSpace

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema(of: Literal["run", "sweep", "benchmark", "study", "tuning"] = "run") -> int:
    """Print the JSON schema of a config file, or of a sweep's file.

    An editor with a YAML language server takes it from a first line `# yaml-language-server: $schema=run.json`.

    Args:
        of: run: presets and what --config names. sweep, benchmark, study, tuning: the files in sweeps/ and
            sweeps/replicate/.
    """
    print(json.dumps(json_schema(sections()[of]), indent=1, ensure_ascii=False))
    return 0


def sections() -> dict[str, type[BaseModel]]:
    """The sorts of config file, each with its class."""
    found: dict[str, type[BaseModel]] = {"run": RunConfig, "sweep": SweepConfig, "benchmark": BenchmarkConfig}
    return found | {"study": StudyConfig, "tuning": TuningSpace}


def json_schema(section: type[BaseModel]) -> dict[str, Any]:
    """The schema of a config class: what a file of it may hold, as the file itself writes it."""
    return {"$schema": DRAFT, **_any_of(section.model_json_schema(by_alias=True))}


def _any_of(content: Any) -> Any:
    """The same with `anyOf` for `oneOf`: a section that leaves its kind to the preset below may fit several."""
    if isinstance(content, dict):
        return {"anyOf" if key == "oneOf" else key: _any_of(value) for key, value in content.items()}
    return [_any_of(value) for value in content] if isinstance(content, list) else content
