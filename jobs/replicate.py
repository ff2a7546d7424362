"""Do the papers' comparisons hold here? `python jobs/replicate.py --help` for options."""

from pathlib import Path

from raypref.sweeps.replicate import main

if __name__ == "__main__":
    main(Path(__file__).parent.parent / "sweeps" / "replicate")
