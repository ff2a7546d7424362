"""Backbones and how titles are scored with them."""
