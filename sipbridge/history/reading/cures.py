"""What each reason to end means in plain words, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sipbridge.outcome import Ended

CURES: Final[Mapping[Ended, tuple[str, str]]] = {
    Ended.CALLER_HUNG_UP: ("the caller hung up", ""),
    Ended.CALLEE_HUNG_UP: ("whom we called hung up", ""),
    Ended.CALLER_CANCELLED: (
        "the caller gave up before he was answered",
        "many of them: answer sooner (`answer`), or look at how long the model takes to connect",
    ),
    Ended.ANSWERED_ELSEWHERE: ("another telephone that rang for the same call was quicker", ""),
    Ended.AGENT_HUNG_UP: ("the agent said goodbye and hung up", ""),
    Ended.TRANSFERRED: ("the caller was put through to somebody else", ""),
    Ended.REFUSED: (
        "the call could not be set up as it was asked for",
        "`media.codecs`, `media.srtp`; `media.ports`; `outbound.max_calls`",
    ),
    Ended.BUSY: ("whom we called was busy", "try later"),
    Ended.NO_ANSWER: ("nobody answered in time", "`outbound.ring_seconds`"),
    Ended.DECLINED: (
        "the far end, or its network, did not want the call",
        "`outbound.auth`; may this number be called from here?",
    ),
    Ended.REDIRECTED: (
        "the far end named another address to call, which was not followed",
        "`follow_redirects` and `refer_targets` of the trunk",
    ),
    Ended.UNREACHABLE: ("there was no way to whom we called", "`sipbridge check`: does the trunk answer?"),
    Ended.CANCELLED: ("it was taken back by us before anybody answered", ""),
    Ended.ANSWERING_MACHINE: (
        "a machine answered, and the tenant says nothing to machines",
        "call again another time, or `machine: talk`",
    ),
    Ended.AGENT_NOT_READY: (
        "the model could not be had, so nobody could talk to the caller",
        "`sipbridge check` says why; a `fallback`",
    ),
    Ended.PROVIDER_FAILED: (
        "the model was lost in mid-call, and no other one could be had",
        "the detail has the vendor's words; a `fallback`",
    ),
    Ended.MEDIA_TIMEOUT: (
        "the caller's sound stopped",
        "NAT, firewall: does the far end's sound arrive? (`docs/audio-health.md`)",
    ),
    Ended.ENCRYPTION_FAILED: (
        "the sound was to be encrypted, and the two sides could not agree on keys",
        "the peer's DTLS; `media.srtp`",
    ),
    Ended.SIGNALLING_FAILED: ("SIP itself broke down", "the call's ladder: `sipbridge ladder CALL-ID`"),
    Ended.TOO_LONG: ("it had lasted as long as a call may", ""),
    Ended.CALLER_SILENT: ("nobody said a word, also when asked", "`silence.seconds`; does the caller's sound arrive?"),
    Ended.SPEND_LIMIT: ("it had cost what one call may", ""),
    Ended.LOOP_DETECTED: ("the far end is a machine, and the two went round in circles", ""),
    Ended.NO_TENANT: (
        "the number that was dialled is no tenant's",
        "`sipbridge route` says why each tenant was not chosen",
    ),
    Ended.TENANT_UNKNOWN: (
        "whose call it was could not be found out: the tenants' backend gave no answer that could be used",
        "`sipbridge check`; is `tenants.url` up?",
    ),
    Ended.TENANT_LIMIT: (
        "the tenant has as many calls, or has used as much, as its limits allow",
        "`limits` of the tenant; the detail says which",
    ),
    Ended.SHUTDOWN: ("the gateway was stopped", "`--drain-seconds`"),
    Ended.NODE_CRASHED: ("the node died while the call was up", "the system's log of that moment; please report it"),
    Ended.INTERNAL_ERROR: ("a mistake of ours", "the log has it; please report it"),
}
"""The latter as docs/ended-reasons.md has it (`tests/history/test_why.py`); "": nothing is to be done."""
