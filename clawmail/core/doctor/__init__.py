"""What ``clawmail doctor`` looks at. ``examine`` is where to begin."""
