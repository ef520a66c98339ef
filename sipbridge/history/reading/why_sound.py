"""Rules of `why`: what was wrong with the sound, and with how soon the agent answered (docs/audio-health.md). Pure."""

from __future__ import annotations

from sipbridge.history.reading.cause import Cause
from sipbridge.history.reading.evidence import Evidence, is_local
from sipbridge.history.reading.timeline import number

_TOO_MUCH_LOSS = 3.0
"""Percent: below, a model understands people and people a model."""
_TOO_LATE_MS = 40.0
"""Later than that packets leave a hole that can be heard."""
_STALLED_MS = 200.0
"""And more than one percent of the call: nobody remembers a call for a single click."""
_SLOW_MS = 1500.0
_FIRST_WORD_MS = 2000.0
"""After the answer: by then people have said "hello?" twice."""
_TOO_SHORT_S = 2.0
"""A call has to last so long before its silence means anything."""


def wrong_keys(call: Evidence) -> Cause | None:
    refused = call.total("unauthenticated") or 0
    if not call.heard_nothing or not refused:
        return None
    return Cause(
        "wrong_keys",
        "The caller's sound arrived, but it could not be decrypted",
        f"{refused:.0f} packets were not genuine, none was",
        "look at the phone's SRTP: it encrypts with other keys than those of its SDP, or sends in the clear; "
        "`media.srtp: off` (or the trunk's `srtp`) tells whether that is it",
    )


def wrong_source(call: Evidence) -> Cause | None:
    strangers = call.total("wrong_source") or 0
    if not call.heard_nothing or not strangers:
        return None
    return Cause(
        "wrong_source",
        "Sound arrived, but from an address that the far end's SDP does not name, so it was not believed",
        f"{strangers:.0f} packets from elsewhere; its SDP says {call.sound_address(ours=False) or 'nothing'}",
        "have the PBX name the address that its sound really comes from (Asterisk: `external_media_address`), or send "
        "from the one that it names; docs/sound.md says whose packets are believed",
    )


def our_address_is_hidden(call: Evidence) -> Cause | None:
    ours = call.sound_address(ours=True)
    if not _silent(call) or not ours or not is_local(ours) or not call.peer or is_local(call.peer):
        return None
    return Cause(
        "our_address",
        "None of the caller's sound arrived: we told the far end an address that it cannot reach",
        f"our SDP says {ours}, and the far end is at {call.peer}",
        "set `sip.public_address` to the address that this machine has for others, and let UDP `media.ports` through",
    )


def nothing_arrives(call: Evidence) -> Cause | None:
    if not _silent(call):
        return None
    theirs = call.sound_address(ours=False)
    fix = "let UDP to `media.ports` through the firewall, and check `media.address` and `sip.public_address`: "
    fix += "they are where the far end sends its sound"
    if theirs and is_local(theirs) and call.peer and not is_local(call.peer):
        fix += f"; the phone names {theirs}, which is behind a NAT: use the PBX's or the trunk's media relay there"
    return Cause(
        "no_audio_received",
        "No sound of the caller's ever arrived, so the agent could not hear him: a firewall or a NAT is in between",
        f"0 packets received, {call.total('packets_sent') or 0:.0f} sent to {_there(call)}",
        fix,
    )


def nothing_leaves(call: Evidence) -> Cause | None:
    errors = call.total("send_errors") or 0
    if errors:
        return Cause(
            "cannot_send",
            "The caller heard gaps or nothing: this machine could not send our sound",
            f"{errors:.0f} packets were not taken by the system, to {_there(call)}",
            "look for a missing route, or a firewall on this machine that refuses UDP",
        )
    if call.legs and call.answered and call.seconds > _TOO_SHORT_S and call.total("packets_sent") == 0:
        return Cause(
            "no_audio_sent",
            "The caller heard nothing: we were told to send no sound",
            "0 packets sent: the far end had us on hold, or named no address in its SDP",
            "look at the far end's SDP in the ladder: `a=inactive`, `a=sendonly` or the address 0.0.0.0",
        )
    return None


def the_far_end_hears_little(call: Evidence) -> Cause | None:
    lost = call.most("remote_loss_percent")
    if lost < _TOO_MUCH_LOSS:
        return None
    one_way = lost > 90
    return Cause(
        "one_way" if one_way else "loss_outbound",
        "The caller heard hardly anything of us: our sound does not get to him"
        if one_way
        else "The caller heard gaps: some of our sound is lost on its way to him",
        f"the far end reports {lost:.0f} % of our packets as lost",
        f"we send to {_there(call)}: is that the phone's address, and does a firewall let UDP through to it?"
        if one_way
        else "look at the way to the phone: Wi-Fi, a full link, QoS (we mark EF)",
    )


def much_is_lost(call: Evidence) -> Cause | None:
    lost = call.most("loss_percent")
    if lost < _TOO_MUCH_LOSS:
        return None
    late = call.total("late") or 0
    if late > 0.5 * (call.total("lost") or 0):
        return Cause(
            "jitter",
            "The agent misheard the caller: much of his sound came too late to be used",
            f"{lost:.1f} % lost, most of it late; jitter up to {call.most('jitter_max_ms'):.0f} ms",
            "look at the way from the phone: Wi-Fi, a full link, QoS; `jitter_max_ms` in docs/audio-health.md",
        )
    return Cause(
        "loss",
        "The agent misheard the caller: much of his sound was lost on the way to us",
        f"{lost:.1f} % of the packets lost, in {call.total('bursts') or 0:.0f} bursts",
        "look at the way from the phone: Wi-Fi, a full link, QoS; a codec that conceals it (opus) helps",
    )


def too_busy(call: Evidence) -> Cause | None:
    stalled, late = call.total("stalled_ms") or 0, call.most("late_max_ms")
    if stalled < max(_STALLED_MS, 10 * call.seconds) and late < _TOO_LATE_MS:
        return None
    return Cause(
        "machine_busy",
        "The sound had gaps because this machine did not get to it in time",
        f"our packets left up to {late:.0f} ms late, and stood still for {stalled:.0f} ms",
        "fewer calls (`limits.max_calls`), a core of its own, or nothing else on this machine; docs/performance.md",
    )


def model_too_slow(call: Evidence) -> Cause | None:
    underruns = call.total("underruns") or 0
    if underruns < 2:
        return None
    return Cause(
        "underruns",
        "The agent stopped in mid-sentence: the model's speech came slower than it is spoken",
        f"its speech ran out {underruns:.0f} times",
        "look at the way to the model (its region, our uplink), and at its load; another model or region",
    )


def first_word_late(call: Evidence) -> Cause | None:
    late = _first_word(call)
    if late is None or late < _FIRST_WORD_MS:
        return None
    return Cause(
        "late_greeting",
        "The caller waited long for the first word",
        f"it came {late / 1000:.1f} s after the answer",
        "`answer: when_ready` answers only when the agent can speak; else a greeting, or a model that is nearer",
    )


_SLOW_FIXES = {
    "endpointing": "the caller's turn is taken for over too late: lower `agent.turn_detection.silence_ms`",
    "model": "the model thinks long: another model or region, shorter instructions, fewer tools",
    "playout": "it waits in this machine: is it too busy? `late_max_ms` and `downlink_ms` in docs/audio-health.md",
}


def slow_answers(call: Evidence) -> Cause | None:
    delay = call.delay_ms
    if delay is None or delay < _SLOW_MS:
        return None
    part, took = call.slowest_part
    return Cause(
        "slow_answers",
        "The agent answered slowly",
        f"half of its {len(call.delays)} answers took longer than {delay:.0f} ms; most of it is {part} ({took:.0f} ms)",
        _SLOW_FIXES[part],
    )


def hung_up_before_a_word(call: Evidence) -> Cause | None:
    if call.ended not in ("caller_hung_up", "callee_hung_up") or not call.answered or not call.report:
        return None
    if call.report.get("audio") is None or _first_word(call) is not None:
        return None
    return Cause(
        "nothing_was_said",
        "They hung up before the agent had said a word",
        f"it ended after {call.seconds:.1f} s, and no sound of the agent's was sent",
        "give the agent a `greeting`; if it has one, look at the provider's notes in the timeline "
        "(`sipbridge history show`)",
    )


def _silent(call: Evidence) -> bool:
    return call.heard_nothing and call.answered and call.seconds > _TOO_SHORT_S


def _first_word(call: Evidence) -> float | None:
    return number(call.report, "audio", "first_audio_after_answer_ms")


def _there(call: Evidence) -> str:
    return next((leg["remote"] for leg in reversed(call.legs) if isinstance(leg.get("remote"), str)), "nowhere")


SOUND = (
    (90, wrong_keys),
    (89, wrong_source),
    (88, our_address_is_hidden),
    (87, nothing_arrives),
    (86, nothing_leaves),
    (70, the_far_end_hears_little),
    (65, much_is_lost),
    (62, too_busy),
    (60, hung_up_before_a_word),
    (50, model_too_slow),
    (45, first_word_late),
    (40, slow_answers),
)
"""Each with its weight."""
