"""The outside world: DNS, SMTP and HTTP clients. Knows ``protocol``, never ``store``."""
