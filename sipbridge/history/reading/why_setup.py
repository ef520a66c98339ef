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
    (r"connection refused|can't be reached", "nobody listens at `agent.url`: is it right, and does a proxy or firewall "
                                             "let it through?"),
    (r"certificate|TLS", "the server's certificate is not trusted: is a proxy in between?"),
    (r"no answer|timeout|timed out|not ready|within", "the vendor did not answer in time: `deadlines.connect_seconds`, "
                                                      "the way there; a `fallback` keeps calls going"),
)  # fmt: skip
"""What is said of a provider -> what is to be done; the first that fits."""


def provider(call: Evidence) -> Cause | None:
    if call.ended not in ("agent_not_ready", "provider_failed"):
        return None
    fix = next((fix for pattern, fix in _PROVIDER if re.search(pattern, call.detail, re.IGNORECASE)), _CHECK)
    name = text(call.started, "provider") or "the provider"
    when = "could not be had" if call.ended == "agent_not_ready" else "was lost in mid-call"
    return Cause(
        call.ended, f"The model of {name} {when}", call.detail or "no words of it are known", f"{fix}. {_CHECK}"
    )


def no_codec(call: Evidence) -> Cause | None:
    if call.ended != "refused" or call.status != 488 or "encrypt" in call.detail.lower():
        return None
    offered = ", ".join(call.offered_codecs())
    return Cause(
        "no_common_codec",
        "The two sides have no codec in common",
        f"offered: {offered}; {call.detail}" if offered else call.detail,
        "add one of those that are offered to `media.codecs` (or the trunk's `codecs`); `sipbridge check` says which "
        "this machine has",
    )


def encryption_refused(call: Evidence) -> Cause | None:
    if call.ended != "refused" or call.status != 488 or "encrypt" not in call.detail.lower():
        return None
    return Cause(
        "encryption_wanted",
        "One side insists on encrypted sound and the other has none",
        call.detail,
        "set `media.srtp` (or the trunk's `srtp`) to `optional`, or switch SRTP on at the phone",
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
    return Cause(
        "no_tenant",
        f"No tenant's `match` fits a call to {to or 'that number'}",
        losers or call.detail or "none of the tenants' files matched when it came in",
        f"add {to or 'the number'} to the `match.to` of whose it is; `sipbridge route --to '{to}' --from '{caller}'` "
        "says what each tenant lacks",
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
    (80, gave_up),
    (75, signalling),
    (58, transfer_failed),
    (55, went_to_another),
    (52, tools_failed),
    (42, slow_tool),
)
"""Each with its weight."""
