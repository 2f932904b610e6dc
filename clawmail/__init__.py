"""Clawmail: a mail server for programs and AI agents. SMTP in, PostgreSQL, HTTP out."""

__version__ = "0.1.0"
