"""SIP signalling (RFC 3261): bytes in, messages, transactions, dialogs and calls out; to SIP a body is just bytes.

From the wire upwards:

    framing                          a stream cut into messages                                   §18.3
    message  fields  headers         messages and their header fields; `status`, `body`           §7, §20, §25
    resolution  dns_cache  hops      which servers a URI means, in which order                    RFC 3263, 2782
    flow  nat                        where a message goes, and who waits for a way there          §18
    digest  digest_server  nonces    challenges and answers, both sides                            §22, RFC 7616, 8760
    timers  transaction              the four transaction machines, as tables                     §17, RFC 6026
    transaction_layer                which of them a message belongs to
    client_request  ping             one request of ours until its final response                 §8.1.2, RFC 3263
    dialog                           who talks to whom, by which route                            §12
    exchange  reliable  ack          whose turn it is to offer; what makes 1xx and 2xx sure       RFC 3264, 3262
    peer_offers  renegotiation       the session changed, and kept alive: `session_timer`         §14, RFC 3311, 4028
    invite  uas  uac  answer  refer  one call, as callee and as caller; transfers                 §13-15, §9, RFC 3515
    screening  core  user_agent      the UA core: what is served, and by whom                     §8
    transport  sockets  dns          asyncio around one user agent: the only I/O here
"""
