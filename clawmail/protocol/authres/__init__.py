"""The Authentication-Results field (RFC 8601): ``write`` makes ours, ``forged`` knows those that only claim to be."""

from clawmail.protocol.authres.forged import claimed_names, remove_forged, strip_forged
from clawmail.protocol.authres.write import fold, results_field, write_results

__all__ = ["claimed_names", "fold", "remove_forged", "results_field", "strip_forged", "write_results"]
