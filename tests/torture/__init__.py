"""Torture: the real server is killed, starved, cut off and filled up under load, and every promise it made is checked.

``python -m tests.torture --minutes 20`` prints one table and exits with 1 if a single promised message is missing.
"""
