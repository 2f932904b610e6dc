"""Webhooks: owners are told of events over HTTP. Begin at ``queue``."""
