"""Whether a run of benchmarks/engine.py is as far ahead of the published way as the committed one of such a machine.

    python benchmarks/engine.py --write FOLDER                  # minutes, on an idle machine
    python benchmarks/baseline.py FOLDER/engine-small.json      # exit code 1 where a ratio fell beyond the tolerance
    python benchmarks/baseline.py FOLDER/engine-small.json --write        # this run becomes the baseline

Ratios (the other way's time, CPU time or peak memory over ours, both measured in turns) move less from run to run than
times do: by some 10 % (docs/performance.md). So 25 % are allowed for times, 10 % for memory, which hardly moves. That
a ratio rose beyond them fails nothing; it is said, as the baseline is then out of date.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "baselines"
TOLERANCE = {"time": 0.25, "cpu_time": 0.25, "memory": 0.10}
"""Share of a baseline's ratio that a new one may be below it."""
OTHER_WAYS = ("published", "prefix-sharing", "trl", "trl-best")
"""Whose ratios to ours are held: of a variant of ours, a ratio that fell may be a gain."""
KEYS = ("case", "sizes", "device", "machine")
"""What a run must have in common with its baseline."""


def name_of(report: dict[str, Any]) -> str:
    """The baseline's file: shape, adapter and device."""
    case = report["case"]
    adapter = f"-lora{case['lora']}" if case["lora"] else ""
    device = f"{report['device']} {report['machine']}".lower().replace(" ", "-")
    return f"engine-{case['shape']}{adapter}-{device}.json"


def baseline_of(report: dict[str, Any], command: str, commit: str) -> dict[str, Any]:
    """What is kept of a run: what was run where, and its ratios."""
    about = {key: report[key] for key in (*KEYS, "torch", "repeats")}
    ratios = {way: over for way, over in report["summary"]["over_ours"].items() if way.split()[0] in OTHER_WAYS}
    return {"command": command, "commit": commit, **about, "over_ours": ratios}


def other_setting(baseline: dict[str, Any], report: dict[str, Any]) -> str | None:
    """The first setting that the two do not share. An option that came later counts as not given then."""
    for key in KEYS:
        a, b = (content if isinstance(content, dict) else {key: content} for content in (baseline[key], report[key]))
        later = {name: None for name in b if name not in a and key == "case"}
        for name, before in {**a, **later}.items():
            if b.get(name) != before:
                return f"{name} is {b.get(name)}, the baseline's {before}"
    return None


def compare(baseline: dict[str, Any], report: dict[str, Any]) -> tuple[list[str], bool]:
    """A line for each ratio that both have, and whether all are within the tolerance."""
    lines, kept = [], True
    for way, ratios in baseline["over_ours"].items():
        for measure, before in ratios.items():
            now = report["summary"]["over_ours"].get(way, {}).get(measure)
            if now is None:
                continue
            low, high = (before * (1 + sign * TOLERANCE[measure]) for sign in (-1, 1))
            verdict = "" if low <= now <= high else "  FELL" if now < low else "  rose: the baseline is out of date"
            kept &= now >= low
            lines.append(f"{way:<16} {measure:<9} {before:7.2f} then, {now:7.2f} now{verdict}")
    return lines, kept


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="JSON that benchmarks/engine.py left by --write")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the baselines")
    parser.add_argument("--write", action="store_true", help="keep this run as the baseline of such a machine")
    parser.add_argument("--command", default="python benchmarks/engine.py --write FOLDER", help="to keep with it")
    parser.add_argument("--commit", help="to keep with it: where the run is reported; none: the checkout's")
    options = parser.parse_args(arguments)
    report = json.loads(options.report.read_text())
    file = options.folder / name_of(report)
    if options.write:
        options.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(baseline_of(report, options.command, options.commit or checkout()), indent=1) + "\n")
        print(f"written: {file}")
        return 0
    if not file.is_file():
        parser.error(f"there is no baseline {file}; keep this run as one by --write")
    baseline = json.loads(file.read_text())
    if found := other_setting(baseline, report):
        parser.error(f"{options.report} can't be compared with {file}: {found}")
    lines, kept = compare(baseline, report)
    if not lines:
        parser.error(f"{options.report} and {file} share no ratio; run the same --negatives and --only")
    print("\n".join(lines))
    print(f"against {file.name}, commit {baseline['commit']}: {'within' if kept else 'beyond'} the tolerance")
    return 0 if kept else 1


def checkout() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
