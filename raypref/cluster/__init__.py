"""Ray: the only room, beside sweeps/, that imports it."""
