"""SIP signalling (RFC 3261): bytes in, messages, transactions, dialogs and calls out; to SIP a body is just bytes.

From the wire upwards: `framing` (§18.3), `message`, `fields` and `headers` (§7, §20, §25), `transaction` (§17),
`dialog` (§12), `invite` (§13-15), `user_agent`, and `transport`, the only module here that does I/O.
"""
