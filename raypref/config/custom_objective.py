"""The config of an objective of the user's own: the text of a Python file, and its parameters."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Literal

import tyro
from pydantic import Field, model_validator
from typing_extensions import Self

from raypref.config.objective_switches import Objective, Scope


class Custom(Objective):
    """An objective of your own: a function in a Python file, with the face of raypref's (docs/own_objective.md)."""

    name: Literal["custom"] = "custom"
    file: Path | None = None
    """The Python file. It is read when the config is, and travels inside it as `code`."""
    code: tyro.conf.Suppress[str] = ""
    """Text of that file: what the address of a run depends on, wherever the file lies."""
    function: str = "loss"
    """Name of the function in it: (batch, params, state) to ObjectiveOutput."""
    params: dict[str, float] = Field(default_factory=dict)
    """Its hyper-parameters: attributes of the function's `params`; a sweep's key is align.objective.params.NAME."""
    reference: bool = True
    """Whether it reads the reference's log-probs."""
    reads: tuple[str, ...] = ()
    """Further columns that it reads, e.g. rating_pos, rating_neg, expert_score_neg."""
    whole_batch: bool = False
    """Whether an example's loss depends on the others of the optimizer batch."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("file") is None:
            return values
        try:
            code = Path(values["file"]).expanduser().read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the objective's file can't be read: {error}") from None
        return {**values, "file": None, "code": code}

    @model_validator(mode="after")
    def _has_function(self) -> Self:
        try:
            found = [n for n in ast.parse(self.code).body if isinstance(n, ast.FunctionDef)] if self.code else None
        except SyntaxError as error:
            raise ValueError(f"the objective's file is no Python: {error}") from None
        if found is not None and self.function not in {each.name for each in found}:
            named = ", ".join(each.name for each in found) or "none"
            raise ValueError(f"the objective's file defines no function '{self.function}'; its functions: {named}")
        return self

    @property
    def uses_reference(self) -> bool:  # type: ignore[override]  # a fact of the class for raypref's own
        return self.reference

    @property
    def scope(self) -> Scope:
        return "batch" if self.whole_batch else "example"

    @property
    def columns(self) -> tuple[str, ...]:
        return self.reads
