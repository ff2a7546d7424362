"""Tests; a folder for each room of raypref, and support, which they share."""
