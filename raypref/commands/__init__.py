"""The functions behind `raypref ...`."""
