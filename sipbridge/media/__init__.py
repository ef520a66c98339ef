"""RFC 3550 and what is needed around it. Knows nothing of SIP or of models.

Everything here is a core of bytes and numbers except `engine`, which owns the sockets and the clock.
"""
