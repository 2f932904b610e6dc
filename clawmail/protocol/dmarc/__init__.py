"""DMARC (RFC 9989): ``record`` reads a policy, ``discovery`` finds it in the DNS, ``evaluate`` judges by it."""

from clawmail.protocol.dmarc.evaluate import DmarcResult, evaluate_dmarc
from clawmail.protocol.dmarc.record import Policy

__all__ = ["DmarcResult", "Policy", "evaluate_dmarc"]
