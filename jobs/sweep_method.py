"""Which method is best, each at its defaults? `python jobs/sweep_method.py --help` for options."""

from pathlib import Path

from raypref.sweeps.job import main

if __name__ == "__main__":
    main(Path(__file__).parent.parent / "sweeps" / "sweep_method.yaml")
