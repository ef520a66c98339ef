"""What the configuration wants of encryption: a trunk's policy as offers and answers, and what is to be warned of.

SDES puts the keys into the signalling, so it is worth what that is worth: whoever reads it hears the call. DTLS makes
its keys on the way of the sound.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from sipbridge.config import Config
from sipbridge.finding import Finding
from sipbridge.gateway_file.trunks import Trunk
from sipbridge.media.keying import Fingerprint, LocalSecurity, Offers, Policy
from sipbridge.sip.flow import Flow
from sipbridge.sip.sockets import parse_listen
from sipbridge.trunks import proxy_of


def policy_of(config: Config, trunk: Trunk | None) -> Policy:
    """What holds for calls over a trunk; None: those that come by none."""
    return config.media.srtp if trunk is None or trunk.srtp is None else trunk.srtp


def wanted(config: Config) -> bool:
    """Somebody may ask for it."""
    return any(policy_of(config, trunk) != "off" for trunk in (None, *config.trunks))


def local_security(
    config: Config, trunk: Trunk | None, *, secret: bytes, fingerprint: Fingerprint | None
) -> LocalSecurity:
    """For the SDP of one leg; `secret` is its own: 32 random octets."""
    policy = policy_of(config, trunk)
    return LocalSecurity(policy, secret=secret, fingerprint=fingerprint, offers=_offers(policy, trunk))


def _offers(policy: Policy, trunk: Trunk | None) -> Offers:
    """Calls of our own. Where encryption is optional, keys are offered in RTP/AVP, for whoever takes them; but not over
    signalling in the clear: they would be worth nothing there, and make an INVITE too long for a datagram."""
    match policy:
        case "off":
            return "plain"
        case "required":
            return "sdes" if trunk is None or trunk.outbound is None else trunk.outbound.srtp_keys
        case "optional":
            return "try_sdes" if trunk is not None and _calls_over_tls(trunk) else "plain"


def _calls_over_tls(trunk: Trunk) -> bool:
    if trunk.outbound is None:
        return False
    proxy = proxy_of(trunk.outbound)
    return proxy.scheme == "sips" or (proxy.params.get("transport") or "").lower() == "tls"


def _calls_in_the_clear(trunk: Trunk) -> bool:
    if trunk.outbound is None or _calls_over_tls(trunk):
        return False
    return not _is_loopback(proxy_of(trunk.outbound).host)


def keys_in_the_clear(flow: Flow | None) -> bool:
    """Whether what goes over this flow can be read on the way. What stays within this machine cannot."""
    return flow is not None and not flow.secure and not _is_loopback(flow.remote[0])


def weaknesses(config: Config) -> Iterator[Finding]:
    """What is allowed and hardly meant: trunks that require encryption, with signalling that anybody on the way can
    read."""
    listens_to_tls = any(parse_listen(url)[0] in ("tls", "wss") for url in config.sip.listen)
    local = all(_is_loopback(parse_listen(url)[1][0]) for url in config.sip.listen)
    for trunk in config.trunks:
        if policy_of(config, trunk) != "required":
            continue
        subject = f"encryption {trunk.name}"
        if _offers("required", trunk) == "sdes" and _calls_in_the_clear(trunk):
            text = "SRTP keys of calls that we place travel in the clear: their signalling is not TLS"
            yield Finding("warning", subject, text, "outbound.transport: tls, or outbound.srtp_keys: dtls")
        elif not listens_to_tls and not local and trunk.register_at is None:
            text = "SRTP keys of calls that come in travel in the clear: no listener has TLS"
            yield Finding("warning", subject, text, "add tls:// to sip.listen, or have the peer use DTLS-SRTP")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
