"""SIP signalling (RFC 3261): bytes in, messages, transactions, dialogs and calls out; to SIP a body is just bytes.

From the wire upwards, each layer by the module to read first; docs/architecture.md has all of them:

    transport            asyncio around one user agent; with `sockets`, `streams`, `dns` the only I/O here    §18
    framing  message     a stream cut into messages; what is in one                                           §18.3, §7
    transaction_layer    which of the four machines (`transaction`) a message belongs to                      §17
    client_request       one request of ours until its final response                                         §8.1.2
    request_server       one request of a peer's until it is refused or served                                §8.2
    dialog               who talks to whom, by which route                                                    §12
    invite  uas  uac     one call, as callee and as caller                                                    §13-15
    user_agent           the value that is fed bytes and time, and given commands                             §8
"""
