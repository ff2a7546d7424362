"""The training loop (one for SFT and alignment), what feeds it and what steps it."""
