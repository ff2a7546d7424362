"""Make a model folder of a GGUF file, whole or in parts.

python benchmarks/gguf_folder.py PART [PART ...] --to FOLDER
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from raypref.models.gguf_folder import convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", type=Path, nargs="+", help="the file, or its parts in order")
    parser.add_argument("--to", type=Path, required=True, help="the folder that is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.gguf"
        with whole.open("wb") as out:
            for part in options.parts:
                with part.open("rb") as read:
                    shutil.copyfileobj(read, out)
        convert(whole, options.to)


if __name__ == "__main__":
    main()
