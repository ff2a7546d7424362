"""How does HR@1 move with K, and at what cost? `python jobs/sweep_negatives.py --help` for options."""

from pathlib import Path

from raypref.sweeps.job import main

if __name__ == "__main__":
    main(Path(__file__).parent.parent / "sweeps" / "sweep_negatives.yaml")
