"""How does HR@1 move with β? `python jobs/sweep_beta.py --help` for options."""

from pathlib import Path

from raypref.sweeps.job import main

if __name__ == "__main__":
    main(Path(__file__).parent.parent / "sweeps" / "sweep_beta.yaml")
