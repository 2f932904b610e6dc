"""DKIM (RFC 6376, with RFC 8301, 8463 and 8616): a domain takes responsibility for a message by signing it.

``sign`` puts signatures on what we send, ``verify`` judges those on what arrives. Below them: ``signature`` reads a
DKIM-Signature field, ``keys`` reads key records and checks a signature against one, ``canonical`` brings header and
body into the form that was signed, ``hashing`` digests it once for all signatures of a message. ARC rests on the same
four.
"""
