"""The command line. Tables for people, ``--json`` for scripts; errors say what to do."""
