"""Rules of `why`: what kept a call from coming about, or broke it, other than its sound. Pure."""

from __future__ import annotations

import re
from collections import Counter

from sipbridge.history.reading.cause import Cause
from sipbridge.history.reading.evidence import Evidence, is_local
from sipbridge.history.reading.timeline import number, text

_SLOW_TOOL_MS = 4000
_CHECK = "`sipbridge check` asks the model and says what is wrong"

_PROVIDER = (
    (r"environment variable \S+ is not set|secret file", "set that variable where sipbridge is started, or the file"),
    (r"HTTP 401|HTTP 403|\b401\b|\b403\b", "the key (`agent.api_key`) is wrong, expired or not allowed to do this"),
    (r"HTTP 404|\b404\b", "the vendor knows no such model or address: `agent.model`, `agent.url`"),
    (r"HTTP 429|\b429\b|quota|rate.?limit", "the vendor's limit is reached: raise it there, or add a `fallback`"),
    (r"HTTP 5\d\d|\b50[0-4]\b", "the vendor is in trouble: see its status page; a `fallback` keeps calls going"),
    (r"can't be resolved|\bdns\b", "the host name of `agent.url` is wrong, or this machine's DNS does not work"),
    (r"connection refused|can't be reached", "nobody listens at `agent.url`: look whether it is right, and "
                                             "whether a proxy or firewall lets it through"),
    (r"certificate|TLS", "the server's certificate is not trusted: look whether a proxy is in between"),
    (r"came of it in time", "the model fell silent while its connection stayed up: `deadlines` says how long that is "
                            "borne; a `fallback` keeps calls going"),
    (r"connection closed", "the vendor, or the way there, ended the session: the code and words above are its own; "
                           "a `fallback` keeps calls going"),
    (r"no answer|timeout|timed out|not ready|within", "the vendor did not answer in time: `deadlines.connect_seconds`, "
                                                      "the way there; a `fallback` keeps calls going"),
)  # fmt: skip
"""What is said of a provider -> what is to be done; the first that fits."""


def provider(call: Evidence) -> Cause | None:
    if call.ended not in ("agent_not_ready", "provider_failed"):
        return None
    fix = next((f"{fix}. " for pattern, fix in _PROVIDER if re.search(pattern, call.detail, re.IGNORECASE)), "")
    name = text(call.started, "provider") or "the provider"
    when = "could not be had" if call.ended == "agent_not_ready" else "was lost in mid-call"
    return Cause(call.ended, f"The model of {name} {when}", call.detail or "no words of it are known", f"{fix}{_CHECK}")


_ENCRYPTION = re.compile(r"encrypt|SRTP|DTLS|crypto|fingerprint", re.IGNORECASE)


def no_codec(call: Evidence) -> Cause | None:
    if call.ended != "refused" or call.status != 488 or _ENCRYPTION.search(call.detail):
        return None
    offered = ", ".join(call.offered_codecs())
    if call.ladder and not offered:
        return Cause(
            "no_audio_offered",
            "The other side's description of the call (SDP) has no sound in it that could be understood",
            call.detail,
            "`sipbridge history show --json` has its INVITE: look at the lines `m=audio` and `a=rtpmap` there",
        )
    return Cause(
        "no_common_codec",
        "The two sides have no codec in common",
        f"offered: {offered}; {call.detail}" if offered else call.detail,
        "add one of those that are offered to `media.codecs` (or the trunk's `codecs`); `sipbridge check` says which "
        "this machine has",
    )


def encryption_refused(call: Evidence) -> Cause | None:
    if call.ended != "refused" or call.status != 488 or not _ENCRYPTION.search(call.detail):
        return None
    return Cause(
        "encryption_wanted",
        "One side insists on encrypted sound and the other has none, or names no key for it",
        call.detail,
        "set `media.srtp` (or the trunk's `srtp`) to `optional`, or switch SRTP (SDES or DTLS) on or off at the phone",
    )


def no_port(call: Evidence) -> Cause | None:
    if call.ended != "refused" or call.status != 503:
        return None
    return Cause("no_rtp_port", "No RTP port was left", call.detail, "widen `media.ports`, or lower `limits.max_calls`")


def not_confirmed(call: Evidence) -> Cause | None:
    """RFC 3261 §13.3.1.4: our 200 goes out again and again until the ACK is there."""
    answers = call.messages("200 OK (INVITE)", sent=True)
    if call.ended != "signalling_failed" or call.outbound or not answers or call.messages("ACK", sent=False):
        return None
    where = _contact(str(answers[0].get("text", "")))
    hidden = is_local(where) and bool(call.peer) and not is_local(call.peer)
    return Cause(
        "no_ack",
        "Our answer was never confirmed: the caller's ACK does not get here",
        f"the 200 was sent {len(answers)} times, to {call.peer}, and no ACK came"
        + (f"; our Contact says {where}" if where else ""),
        "set `sip.public_address`: the far end sends its ACK to our Contact, which it cannot reach"
        if hidden
        else "the ACK goes to the address in our Contact (see the ladder): can the far end reach it, past firewalls "
        "and proxies? `sip.public_address`",
    )


def signalling(call: Evidence) -> Cause | None:
    if call.ended != "signalling_failed":
        return None
    return Cause(
        "signalling_failed",
        "SIP itself broke down",
        call.detail or call.final_response,
        "`sipbridge history show` has the messages in their order: the last one that was not answered is the trouble",
    )


_FAR_END = {
    401: ("it wants a password, or another one", "`outbound.auth` of the trunk"),
    403: ("it does not allow this call", "is the trunk's account allowed to call this number, and from this caller's?"),
    404: ("it knows no such number", "check the number, and how the trunk wants it written (+, 00, national)"),
    407: ("it wants a password, or another one", "`outbound.auth` of the trunk"),
    408: ("nothing answers there at all", "`outbound.proxy` of the trunk: address, port, transport; firewalls. "
                                          "`sipbridge check` asks it"),
    410: ("the number is no longer in use", "check the number"),
    484: ("the number is not complete", "check the number, and how the trunk wants it written (+, 00, national)"),
    488: ("it takes none of our codecs, or wants encryption", "`codecs` and `srtp` of the trunk"),
    503: ("it is overloaded or switched off", "`sipbridge check`: does the trunk answer? else ask its operator"),
}  # fmt: skip


def far_end(call: Evidence) -> Cause | None:
    """A call of ours that came to nothing: what they answered says why."""
    status = int(call.status or 0)
    if not call.outbound or call.answered or status not in _FAR_END:
        return None
    said, fix = _FAR_END[status]
    return Cause(
        f"far_end_{status}",
        f"The far end did not take the call: {said}",
        f"it answered {call.final_response or status}; {call.detail}".rstrip("; "),
        fix,
    )


def nobodys(call: Evidence) -> Cause | None:
    if call.ended != "no_tenant":
        return None
    to, caller = text(call.started, "to"), text(call.started, "caller")
    losers = "; ".join(f"{tenant}: {reason}" for tenant, reason in call.route[:5])
    if now := next((tenant for tenant, reason in call.route if reason.startswith("chosen")), ""):
        return Cause(
            "no_tenant",
            f"No tenant's `match` fitted a call to {to or 'that number'} when it came in",
            f"today it would be for {now}, which has come or changed since",
            "",
        )
    return Cause(
        "no_tenant",
        f"No tenant's `match` fits a call to {to or 'that number'}",
        losers or call.detail or "none of the tenants' files matched when it came in",
        f"add {to or 'the number'} to the `match.to` of whose it is; `sipbridge route --to '{to}' --from '{caller}'` "
        "says what each tenant lacks",
    )


_LIMIT_FIXES = {
    "concurrent_calls": "so many calls of the tenant were up: raise `limits.concurrent_calls`",
    "calls_per_second": "calls came faster than that: raise `limits.calls_per_second`",
    "minutes_per_day": "the day's minutes are used up: raise `limits.minutes_per_day`, or wait for midnight of "
                       "`limits.timezone`",
    "spend_per_day": "the day's money is spent: raise `limits.spend_per_day`, or wait for midnight of "
                     "`limits.timezone`",
}  # fmt: skip


def limited(call: Evidence) -> Cause | None:
    """Turned away, or ended, by a limit of its tenant's: docs/limits.md."""
    limit = call.detail.partition(":")[0]
    if call.ended != "tenant_limit" or limit not in _LIMIT_FIXES:
        return None
    tenant = text(call.started, "tenant")
    what = "ended the call" if call.answered else "left no room for the call"
    return Cause(
        "tenant_limit",
        f"A limit of the tenant {tenant} {what}",
        f"{call.detail}{' (0 is none at all)' if call.detail.endswith(': 0') else ''}",
        f"{_LIMIT_FIXES[limit]} in the tenant's file; `limits.spoken` tells callers in words",
    )


def gave_up(call: Evidence) -> Cause | None:
    if call.ended != "caller_cancelled":
        return None
    waiting = max((number(note, "at") or 0.0 for note in call.notes), default=0.0)
    return Cause(
        "caller_cancelled",
        "The caller gave up before he was answered",
        f"it rang for {max(call.seconds, waiting):.1f} s",
        "answer sooner: `answer: immediately` or fewer `rings`; where it is the model that takes long to connect, "
        "`deadlines.connect_seconds` and a `fallback`",
    )


def transfer_failed(call: Evidence) -> Cause | None:
    failed = [each for each in call.transfers if each.get("succeeded") is False]
    if not failed:
        return None
    last = failed[-1]
    return Cause(
        "transfer_failed",
        f"The caller could not be put through to {text(last, 'target') or 'anybody'}",
        text(last, "detail") or f"by {text(last, 'way')}",
        "check the target's address in `tools.transfer_call.targets`, and whether the trunk allows it "
        "(docs/transfers.md)",
    )


def tools_failed(call: Evidence) -> Cause | None:
    failed = [tool for tool in call.tools if text(tool, "outcome") not in ("ok", "cancelled")]
    if not failed:
        return None
    (name, outcome), times = Counter((text(tool, "name"), text(tool, "outcome")) for tool in failed).most_common(1)[0]
    error = next((text(tool, "error") for tool in failed if text(tool, "name") == name and text(tool, "error")), "")
    return Cause(
        "tool_failed",
        f"The tool {name} did not do what the agent asked of it",
        f"{outcome}, {times} times" + (f": {error}" if error else ""),
        _TOOL_FIXES.get(outcome, "look at the tool's service: it said that"),
    )


_TOOL_FIXES = {
    "timeout": "the tool's service is too slow, or not there: `timeout_seconds` of the tool, `deadlines.tool_seconds`",
    "invalid": "the model gave arguments that do not fit: describe the tool's parameters better",
    "unknown": "the model made a tool up: say in the instructions which there are",
    "refused": "it was asked for too often: `tools.quota` in docs/tools.md",
}


def agent_errors(call: Evidence) -> Cause | None:
    """Words of the vendor's that did not end the call: it may have left something out, or said nothing."""
    errors = [text(note, "detail") for note in call.notes if text(note, "what") == "agent_error"]
    if not errors or call.ended in ("agent_not_ready", "provider_failed"):
        return None
    words, times = Counter(errors).most_common(1)[0]
    fix = next((f"{fix}. " for pattern, fix in _PROVIDER if re.search(pattern, words, re.IGNORECASE)), "")
    return Cause(
        "agent_error",
        "The model reported an error, so that an answer may be missing or cut off",
        f"{len(errors)} times, mostly: {words}" if len(errors) > 1 else words,
        f"{fix}`sipbridge history show` has when; the words are the vendor's",
    )


def slow_tool(call: Evidence) -> Cause | None:
    slow = max(call.tools, key=lambda tool: number(tool, "ms") or 0.0, default={})
    ms = number(slow, "ms") or 0.0
    if ms < _SLOW_TOOL_MS:
        return None
    return Cause(
        "slow_tool",
        f"The caller waited for the tool {text(slow, 'name')}",
        f"it took {ms / 1000:.1f} s",
        "a faster service, or a word before it: have the instructions say that the agent announces it",
    )


def went_to_another(call: Evidence) -> Cause | None:
    steps = call.report.get("fallback")
    if not isinstance(steps, (list, tuple)) or not steps or call.ended in ("agent_not_ready", "provider_failed"):
        return None
    words = "; ".join(step for step in steps if isinstance(step, str))
    return Cause("fell_back", "The agent failed, and another one stood in", words[:500], _CHECK)


def _contact(message: str) -> str:
    found = re.search(r"^(?:contact|m)[ \t]*:.*?sips?:(?:[^@>\s]*@)?\[?([0-9A-Fa-f.:]+?)\]?(?::\d+)?[;>\s]", message,
                      re.IGNORECASE | re.MULTILINE)  # fmt: skip
    return found[1] if found else ""


SETUP = (
    (95, provider),
    (95, no_codec),
    (95, encryption_refused),
    (95, no_port),
    (95, not_confirmed),
    (95, far_end),
    (95, nobodys),
    (95, limited),
    (80, gave_up),
    (75, signalling),
    (58, transfer_failed),
    (55, went_to_another),
    (53, agent_errors),
    (52, tools_failed),
    (42, slow_tool),
)
"""Each with its weight."""
