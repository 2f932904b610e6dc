"""Goldens of ARC; see ../README."""
