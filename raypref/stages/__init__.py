"""The chain of stages, a file for each, and how they run, on Ray or in one process."""
