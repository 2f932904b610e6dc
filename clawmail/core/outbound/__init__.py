"""The way out: from a queued delivery to another host's 250, and what comes back. ``queue`` is where to begin."""
