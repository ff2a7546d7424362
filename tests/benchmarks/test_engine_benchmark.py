"""benchmarks/engine.py: the limits that it computes, by hand, and its tiny shape from end to end."""

from __future__ import annotations

import json
import re
import runpy
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.processes import CHECKOUT

LIMITS = runpy.run_path(str(CHECKOUT / "benchmarks" / "engine_limits.py"))
COLUMNS = {
    "negatives", "variant", "loss", "tokens", "seconds", "all_seconds", "cpu_seconds", "peak_mb", "tokens_per_second",
    "flops", "bytes", "tflops_per_second", "share_of_peak", "seconds_by_flops", "seconds_by_bytes",
}  # fmt: skip
PEAK = 0.25  # TFLOP/s, said to be the machine's

# Head width 2, so a layer has 2 x 4 x 2 = 16 weights for keys and values, 2 x 16 + 3 x 24 = 104 others; the head 40.
SMALL = LIMITS["Shape"](4, 2, 2, 1, 6, 10, batch=2, prompt=3, title=2)
# K = 1: a document is 3 + 2 x 1 tokens, 1 + 2 x 1 of them places; a copy is 3 + 2 tokens.


def test_the_operations_of_a_step_by_hand() -> None:
    # Ours, multiply-adds of a prompt. First layer: 5 x 120, and 6 + 2 x (3 + 1) = 14 pairs of 2 x 4.
    # Last: 5 x 16 + 3 x 104, and 3 + 2 x 4 = 11 pairs. Head: 3 x 40. Published, of a copy: 2 layers of 5 x 120 and
    # 15 pairs, head 5 x 40. Prefix sharing: 2 layers of 5 x 120 and 14 pairs, head 5 x 40.
    # 6 for each with all weights trained, 4 for products with LoRA; 2 for the reference.
    shared_products, shared_pairs = 2 * 600 + 200, 8 * 2 * 14
    products, pairs = 600 + 80 + 312 + 120, 8 * (14 + 11)
    copy_products, copy_pairs = 2 * 600 + 200, 8 * 2 * 15
    assert LIMITS["step_flops"](SMALL, 1, False) == {
        "ours": 2 * 6 * (products + pairs),
        "prefix-sharing": 2 * 6 * (shared_products + shared_pairs),
        "published": 2 * 2 * 8 * (copy_products + copy_pairs),
    }
    assert LIMITS["step_flops"](SMALL, 1, True) == {
        "ours": 2 * (4 * products + 6 * pairs),
        "prefix-sharing": 2 * (4 * shared_products + 6 * shared_pairs),
        "published": 2 * 2 * (6 * copy_products + 8 * copy_pairs),
    }


def test_the_bytes_of_a_step_by_hand() -> None:
    # 2 x 120 + 40 = 280 weights, read twice; each has a gradient written once and read twice, and 24 bytes of AdamW.
    # Saved, ours, values of a prompt: 5 x (24 + 4 + 18) in the first layer; 5 x (8 + 4) + 3 x (16 + 18) in the last;
    # 3 x 8 past it; 3 x 10 logits. Prefix sharing and, of a copy, published: 2 x 5 x 46 + 5 x 8, and 5 x 10 logits,
    # those of the published way twice.
    saved, copy = 230 + 162 + 24, 460 + 40
    assert LIMITS["step_bytes"](SMALL, 1, None, False, {"ours": 1, "published": 1}) == {
        "ours": 2 * 280 * 4 + 280 * (3 * 4 + 24) + 2 * 2 * 4 * (saved + 30),
        "prefix-sharing": 2 * 280 * 4 + 280 * (3 * 4 + 24) + 2 * 2 * 4 * (copy + 50),
        "published": 3 * 280 * 4 + 280 * (3 * 4 + 24) + 2 * 2 * 2 * 4 * (copy + 2 * 50),
    }
    # In halves, an adapter of rank 1: 2 x (4 x 4 + 2 x 6 + 3 x 10) = 116 weights. Ours in two micro-batches, whose
    # gradients are written twice and read three times. Logits are float32 still.
    assert LIMITS["step_bytes"](SMALL, 1, 1, True, {"ours": 2, "published": 1}) == {
        "ours": 2 * 2 * 280 * 2 + 116 * (5 * 4 + 24) + 2 * 2 * (2 * saved + 4 * 30),
        "prefix-sharing": 2 * 2 * 280 * 2 + 116 * (5 * 4 + 24) + 2 * 2 * (2 * copy + 4 * 50),
        "published": 3 * 280 * 2 + 116 * (3 * 4 + 24) + 2 * 2 * 2 * (2 * copy + 4 * 2 * 50),
    }
    once, again = (
        LIMITS["step_bytes"](SMALL, 1, None, False, {"ours": 1, "published": 1}, checkpointing)
        for checkpointing in (0, 1)
    )
    assert again["ours"] - once["ours"] == 280 * 4  # the weights are read a third time


def test_what_is_given_is_taken_and_the_rest_measured() -> None:
    machine = LIMITS["find_machine"](torch.device("cpu"), None, seconds=0.01)
    assert machine.flops_per_second > machine.bytes_per_second > 1e8  # true of any processor of this century
    assert machine.peak.startswith("measured")
    given = LIMITS["find_machine"](torch.device("cpu"), 312.0, seconds=0.01)
    assert given.flops_per_second == 312e12
    assert given.peak == "given by --peak-tflops"


def benchmark(folder: Path, *options: str) -> dict[str, Any]:
    """The JSON that the script leaves of its tiny shape."""
    script = CHECKOUT / "benchmarks" / "engine.py"
    options = ("--shape", "tiny", "--threads", "1", "--repeats", "3", "--write", str(folder), *options)
    done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads((folder / "engine-tiny.json").read_text())
    table = (folder / "engine-tiny.md").read_text()
    assert table in done.stdout
    assert len(table.splitlines()) == 2 + len(report["rows"])
    assert (folder / "engine-tiny.svg").stat().st_size > 1000
    return report


def check(report: dict[str, Any]) -> None:
    """Every column is there, and what is computed of a time agrees with the time."""
    ours = {row["negatives"]: row for row in report["rows"] if row["variant"] == "ours"}
    peak, bandwidth = (report["limits"][key] for key in ("flops_per_second", "bytes_per_second"))
    for row in report["rows"]:
        assert row.keys() - {"reference_seconds"} == COLUMNS
        assert len(row["all_seconds"]) == report["repeats"]
        seconds = statistics.median(row["all_seconds"])
        assert row["seconds"] == seconds > 0
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / seconds, rel=1e-3)
        assert row["tflops_per_second"] == pytest.approx(row["flops"] / seconds / 1e12, abs=1e-4)
        assert row["share_of_peak"] == pytest.approx(row["flops"] / seconds / peak, abs=1e-4)
        assert row["seconds_by_flops"] == pytest.approx(row["flops"] / peak, abs=1e-6)
        assert row["seconds_by_bytes"] == pytest.approx(row["bytes"] / bandwidth, abs=1e-6)
        assert row["loss"] == pytest.approx(ours[row["negatives"]]["loss"], rel=1e-3)
        if row["variant"] != "ours":
            own = ours[row["negatives"]]
            ratio = report["summary"]["over_ours"][f"{row['variant']} K={row['negatives']}"]
            pairs = [a / b for a, b in zip(row["all_seconds"], own["all_seconds"])]
            assert ratio["time"] == pytest.approx(statistics.median(pairs), abs=0.01)
            assert ratio["cpu_time"] == pytest.approx(row["cpu_seconds"] / own["cpu_seconds"], abs=0.01)
            assert ratio["memory"] == pytest.approx(row["peak_mb"] / own["peak_mb"], abs=0.01)


@pytest.mark.measures
def test_the_tiny_shape_from_end_to_end(tmp_path: Path) -> None:
    report = benchmark(tmp_path, "--only", "published", "ours", "--negatives", "3", "--peak-tflops", str(PEAK))
    assert report["limits"]["flops_per_second"] == PEAK * 1e12
    check(report)
    published, ours = report["rows"]
    # 2 prompts of 24 tokens, titles of 4 whose end is no input: ours goes on with 3 a title, once for all of them.
    assert ours["tokens"] == 2 * (24 + 4 * 3)
    assert published["tokens"] == 2 * 4 * (24 + 4) * 2
    assert published["flops"] > 4 * ours["flops"]
    assert "one_more_negative" not in report["summary"]


@pytest.mark.slow
def test_all_variants_and_micro_batches(tmp_path: Path) -> None:
    """TRL too, and micro-batches of one example, or of at most two copies, which leave the loss as it is."""
    report = benchmark(tmp_path, "--negatives", "1", "3", "--micro", "1", "--copies", "2")
    assert report["limits"]["peak"].startswith("measured")
    assert [(row["negatives"], row["variant"]) for row in report["rows"]] == [
        (1, "published"), (1, "prefix-sharing"), (1, "trl"), (1, "trl-best"), (1, "ours"),
        (3, "published"), (3, "prefix-sharing"), (3, "ours"),
    ]  # fmt: skip
    check(report)
    first, last = (row["seconds"] for row in report["rows"] if row["variant"] == "ours")
    assert report["summary"]["one_more_negative"]["seconds"] == pytest.approx((last - first) / 2, abs=1e-5)


def test_a_trace_names_what_a_step_spends_its_time_on() -> None:
    command = [
        sys.executable,
        "benchmarks/engine.py",
        "--shape",
        "tiny",
        "--trace",
        "--only",
        "ours",
        "--negatives",
        "1",
    ]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    head = next(i for i, line in enumerate(said) if line.startswith("ours, K = 1: "))
    spent = float(re.search(r"traced, ([0-9.]+) ms", said[head])[1])
    rows = [line.split() for line in said[head + 1 :]]
    assert 5 <= len(rows) <= 14
    times = [float(row[0]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert 0 < sum(times) <= spent * 1.01
    assert any("mm" in row[3] for row in rows)
