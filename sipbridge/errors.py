"""Every error of sipbridge, in one tree.

    SipbridgeError
    ├── ConfigError                 the configuration is wrong: file, line and key
    ├── TenantSourceError           who has the tenants cannot be asked, and nothing is known from before
    ├── CallNotPlacedError          a call that was asked of us and that we do not make: no trunk, no budget
    ├── CallNotAnsweredError        a call that we made came to nothing: busy, no answer, refused, unreachable
    ├── SipError
    │   ├── SipParseError           a peer sent something that is no valid SIP message (RFC 3261 §21.4)
    │   ├── StreamFramingError      a SIP byte stream that can no longer be framed: close it (§18.3)
    │   ├── TlsError                a TLS connection that fails, or a certificate of somebody else
    │   │   └── TlsFileError        a certificate, key or CA file that cannot be used
    │   └── LocalProtocolError      we asked the stack for something the RFC does not allow now: our bug
    ├── MediaError
    │   ├── SdpError                an offer or answer that cannot be used (RFC 3264, 8866)
    │   │   └── EncryptionError     nothing wrong but that it is encrypted, or is not
    │   ├── RtpError                a datagram that is no valid RTP (RFC 3550 §5.1)
    │   └── NoPortAvailableError    every RTP port of the range is in use or resting
    └── ProviderError
        ├── UnknownProviderError    no such slug; the message names those that exist
        ├── AgentStartError         the model could not be made ready: the caller gets 480
        └── AgentClosedError        the agent was used after close()

An error knows what it means outside: `sip_status`, the answer to give when it ends a request, and `label`, the metric
label to count it under.
"""

from __future__ import annotations

from typing import ClassVar


class SipbridgeError(Exception):
    """Base of all errors that sipbridge raises on purpose."""

    sip_status: int = 500
    label: ClassVar[str] = "internal"


class ConfigError(SipbridgeError):
    """A configuration that cannot be used; the message names file, line and key."""

    label = "config"


class TenantSourceError(SipbridgeError):
    """Whose call this is cannot be told now: the tenants' backend is down, and nothing of its is known from before."""

    sip_status = 480
    label = "tenant_source"


class CallNotPlacedError(SipbridgeError):
    """We were asked to call and do not: nothing has left the house."""

    sip_status = 403
    label = "call_not_placed"


class CallNotAnsweredError(SipbridgeError):
    """A call of ours came to nothing. `status` is the final response, or what it would have been; `reason` its Reason
    header field, as it came; `rang`: somebody's phone has been ringing."""

    label = "call_not_answered"

    def __init__(self, message: str, *, status: int, reason: str | None = None, rang: bool = False) -> None:
        super().__init__(message)
        self.sip_status = status
        self.reason = reason
        self.rang = rang


class SipError(SipbridgeError):
    label = "sip"


class SipParseError(SipError):
    """A peer's message that is not valid SIP.

    `sip_status` is the 4xx/5xx to answer with, where the message was a request whose Via, From, To, Call-ID and CSeq
    could be read; those raw header values are in `reply_headers` (empty: nothing can be answered, drop and count).
    `fault` is the word to count it under, one of `sip/faults.py`.
    """

    label = "sip_parse"

    def __init__(
        self,
        message: str,
        *,
        sip_status: int = 400,
        method: str | None = None,
        reply_headers: tuple[tuple[str, str], ...] = (),
        fault: str = "other",
    ) -> None:
        super().__init__(message)
        self.sip_status = sip_status
        self.method = method
        self.reply_headers = reply_headers
        self.fault = fault


class StreamFramingError(SipError):
    """The byte stream can't be cut into messages any more, or a limit was passed: close the connection.

    `fault` is the word to count it under, one of `sip/faults.py`.
    """

    label = "sip_framing"

    def __init__(self, message: str, *, fault: str = "other") -> None:
        super().__init__(message)
        self.fault = fault


class TlsError(SipError):
    """TLS with this peer can't be: its certificate, its name, or what it sends."""

    label = "tls"


class TlsFileError(TlsError):
    """A file of ours that can't be used; `key` is its name in `sip.tls`."""

    label = "tls_file"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class LocalProtocolError(SipError):
    """Our own side asked for something the protocol does not allow in this state. A bug, never the peer's fault."""

    label = "local_protocol"


class MediaError(SipbridgeError):
    label = "media"


class SdpError(MediaError):
    """`sip_status` is 400 where the description does not parse, 488 where nothing in it can be accepted."""

    label = "sdp"

    def __init__(self, message: str, *, sip_status: int = 488) -> None:
        super().__init__(message)
        self.sip_status = sip_status


class EncryptionError(SdpError):
    """The other side wants SRTP and we do not, or the other way round. The message is ours: it may be told."""

    label = "encryption"


class RtpError(MediaError):
    label = "rtp"


class NoPortAvailableError(MediaError):
    """The node is full: 503, so that a proxy tries the next one."""

    sip_status = 503
    label = "no_rtp_port"


class ProviderError(SipbridgeError):
    """The model's side. Never 503: one tenant's provider must not make a trunk think that the gateway is down."""

    sip_status = 480
    label = "provider"


class UnknownProviderError(ProviderError):
    label = "provider_unknown"


class AgentStartError(ProviderError):
    """The agent could not be started. `code` is the vendor's or transport's own word for it, for logs and Reason.

    `again`: the next attempt may well succeed (no connection, too many sessions, a server in trouble); False where the
    key, the model or what was asked for is refused.
    """

    label = "provider_start"

    def __init__(self, message: str, *, code: str = "", again: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.again = again


class AgentClosedError(ProviderError):
    label = "provider_closed"
