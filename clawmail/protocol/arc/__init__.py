"""ARC, the Authenticated Received Chain (RFC 8617): what each forwarder saw, sealed so that the next hop can trust it.

Forwarding breaks SPF, and a mailing list breaks DKIM. So each handler on the way puts three fields on top, an "ARC set"
with its instance number: ARC-Authentication-Results says how the message was judged when it arrived there,
ARC-Message-Signature signs the message as it left, ARC-Seal signs all the sets so far. ``chain`` reads the sets of a
message, ``verify`` judges the chain, ``seal`` adds a set.
"""

from clawmail.protocol.arc.chain import ArcResult
from clawmail.protocol.arc.seal import seal
from clawmail.protocol.arc.verify import verify_arc

__all__ = ["ArcResult", "seal", "verify_arc"]
