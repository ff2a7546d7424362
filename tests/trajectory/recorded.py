"""The numbers of the small runs that are committed, in `recorded.json`.

python tests/trajectory/recorded.py     # writes them anew: for a change that means to move them, and says so
"""

from __future__ import annotations

import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from differences import Recording
from runs import HERE, take

FILE = HERE / "recorded.json"
TREE = HERE.parent.parent
DIGITS = 9  # float32's
HELD = ("metrics.jsonl", "validation.jsonl", "rows.parquet")
ROWS = ("split", "user", "target_item", "logps", "rank", "answer", "beams")


def held(recording: Recording) -> Recording:
    """The part of a recording that is committed: losses, gradient norms, validations, the scores of each user."""
    return {
        kind: {
            file: {name: rounded(values) for name, values in columns.items() if name in ROWS or file.endswith(".jsonl")}
            for file, columns in files.items()
            if file.endswith(HELD)
        }
        for kind, files in recording.items()
    }


def rounded(value: object) -> object:
    """Floats to `DIGITS` digits."""
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def made_by() -> dict[str, str]:
    """What rounds otherwise in another version, or on another family of processors."""
    return {"machine": platform.machine(), "torch": version("torch").partition("+")[0]}


def load() -> tuple[Recording, dict[str, Any]]:
    """The committed numbers, and what they were made by."""
    content = json.loads(FILE.read_text())
    made = content.pop("made by")
    return content, made


def written(recording: Recording) -> str:
    """As JSON, a line for each column, so that a diff shows what has moved."""
    kinds = [f'"made by": {json.dumps(made_by())}']
    for kind, files in recording.items():
        blocks = []
        for file, columns in files.items():
            lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(values)}" for name, values in columns.items())
            blocks.append(f"{json.dumps(file)}: {{\n{lines}\n}}")
        kinds.append(f"{json.dumps(kind)}: {{\n" + ",\n".join(blocks) + "\n}")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(written(held(take(Path(folder), TREE))))
