"""Sender Policy Framework (RFC 7208): may this client send mail for that domain? ``check.check_spf`` answers."""
