"""MIME: messages taken apart and put together (RFC 2045 to 2049, 2231, 5322, 6532, 8621)."""
