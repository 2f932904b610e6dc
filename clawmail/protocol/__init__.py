"""First floor: the RFCs as pure functions. Bytes and values in, values out; DNS and the clock come in as arguments."""
