"""Which method recommends best? `python jobs/benchmark.py --help` for options."""

from pathlib import Path

from raypref.sweeps.benchmark import main

if __name__ == "__main__":
    main(Path(__file__).parent.parent / "sweeps" / "benchmark.yaml")
