"""What finished trials say: collected, tested, drawn, reported. Reads results; computes no model."""
