"""The chain of stages: addresses, bodies, and how each runs, on Ray or in one process."""
