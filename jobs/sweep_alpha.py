"""How does HR@1 move with α? `python jobs/sweep_alpha.py --help` for options."""

from pathlib import Path

from raypref.sweeps.job import main

if __name__ == "__main__":
    main(Path(__file__).parent.parent / "sweeps" / "sweep_alpha.yaml")
