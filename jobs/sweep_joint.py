"""Which λ, α, β and K give the best HR@1 and ValidRatio together? `python jobs/sweep_joint.py --help` for options."""

from pathlib import Path

from raypref.sweeps.job import main

if __name__ == "__main__":
    main(Path(__file__).parent.parent / "sweeps" / "sweep_joint.yaml")
