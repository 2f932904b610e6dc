"""The log: a small vocabulary of mail events with key=value facts.

``received``, ``refused``, ``queued``, ``attempt``, ``delivered``, ``deferred``, ``bounced``, ``ready``, ``stopping`` …
A line says what happened; its facts say to whom. Secrets are dropped here, at the source, whatever a caller passes.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import msgspec
import structlog

#: facts whose value never reaches a log line.
SECRET_FACTS = frozenset({"key", "api_key", "token", "secret", "password", "authorization", "private_key"})

_encode = msgspec.json.Encoder(enc_hook=str).encode

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def _drop_secrets(_logger: object, _name: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in SECRET_FACTS.intersection(facts):
        facts[name] = "[secret]"
    return facts


def _json_line(_logger: object, _name: str, facts: MutableMapping[str, Any]) -> bytes:
    try:
        return _encode(facts)
    except UnicodeEncodeError:  # a lone surrogate in what a stranger wrote
        return json.dumps(facts, default=str).encode()


def configure(level: str = "info", format: str = "auto") -> None:
    """Sets up logging of the process to standard error: ``format`` is text, json, or auto (text on a terminal)."""
    as_text = format == "text" or (format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if as_text else _json_line
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _drop_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if as_text
        else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(_LEVELS[level], logging.WARNING), stream=sys.stderr, force=True)


def logger(concern: str) -> structlog.stdlib.BoundLogger:
    """The logger of one concern ("smtp", "api", "queue", "store"), which every line of it names."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(concern=concern)
    return bound
