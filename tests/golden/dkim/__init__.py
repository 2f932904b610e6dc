"""Goldens of DKIM; see ../README."""
