"""What strangers, broken phones and people who dial wrong get to hear; and what they don't."""

from __future__ import annotations

import asyncio

import pytest

from sipbridge.outcome import Ended
from tests.loopback.house import House, house
from tests.loopback.phone import Message, Phone, describe


async def still_there(phone: Phone) -> Message:
    """Whatever was sent before, an OPTIONS after it is answered; by then it would have been answered, too."""
    phone.new_call()
    phone.send(phone.request("OPTIONS"))
    return await phone.expect(200, "OPTIONS")


async def refused(bench: House, phone: Phone, status: int) -> Message:
    message = await phone.expect(status)
    if message.method == "INVITE":
        phone.ack_failure(message)
    assert len(bench.gateway.calls) == 0
    assert bench.model.sessions == []
    return message


async def test_options() -> None:
    async with house() as bench:
        phone = await bench.phone()
        answer = await still_there(phone)
        assert {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"} <= set(answer["Allow"].split(", "))
        assert answer["Accept"] == "application/sdp"
        assert answer.to_tag


async def test_what_is_no_sip_is_dropped_and_counted() -> None:
    datagrams = (
        b"hello",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)),
        b"\xff" * 1400,
        b"SIP/2.0",
        b"\r\n\r\n",
        b"",
    )
    async with house() as bench:
        phone = await bench.phone()
        for datagram in datagrams:
            phone.send(datagram)
        await still_there(phone)
        assert phone.statuses("OPTIONS") == [200]
        assert len(phone.messages) == 1, "nothing but the OPTIONS was answered"
        counters = bench.gateway.user_agent.counters
        assert counters["dropped_malformed"] >= 5


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"CSeq: 1 INVITE", b"CSeq: one INVITE", 400),
        (b"CSeq: 1 INVITE", b"CSeq: 1 BYE", 400),
        (b"CSeq: 1 INVITE", b"CSeq: 99999999999 INVITE", 400),
        (b"Content-Length: ", b"Content-Length: 9", 400),
        (b"Contact: <sip:", b"X-Contact: <sip:", 400),
        (b" SIP/2.0\r\nVia", b" SIP/3.0\r\nVia", 505),
        (b"INVITE sip:agent@", b"INVITE http://agent@", 416),
        (b"Content-Type: application/sdp", b"Content-Type: text/plain", 415),
        (b"Content-Type: application/sdp", b"Content-Encoding: gzip\r\nContent-Type: application/sdp", 415),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nRequire: 100rel, x-magic", 420),
        (b"m=audio", b"m=audio 70000 RTP/AVP 0\r\nm=audio", 400),
        (b"RTP/AVP 0 8 101", b"RTP/AVP 18", 488),
        (b"RTP/AVP 0 8 101", b"RTP/SAVP 0 8 101", 488),
        (b"m=audio", b"m=image", 488),
    ],
)
async def test_an_invite_with_a_fault_gets_its_answer(old: bytes, new: bytes, status: int) -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.new_call()
        text = phone.request("INVITE", body=describe(phone.audio.address), branch="z9hG4bK-faulty")
        phone.branch = "z9hG4bK-faulty"
        assert old in text
        broken = text.replace(old, new, 1)
        if old[:2] in (b"v=", b"m=", b"RT"):  # its length has changed
            head, _, body = broken.partition(b"\r\n\r\n")
            start = head.rindex(b"Content-Length")
            broken = head[:start] + b"Content-Length: %d\r\n\r\n" % len(body) + body
        phone.send(broken)
        message = await phone.expect(status)
        assert message["Call-ID"] == phone.call_id
        if status == 420:
            assert message["Unsupported"] == "x-magic"
        if status == 415:
            assert message["Accept"] == "application/sdp"
        if status == 488:
            phone.ack_failure(message)
        await still_there(phone)
        assert bench.model.sessions == [], "no model was bothered"


async def test_methods_we_do_not_have_and_dialogs_that_are_not() -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.new_call()
        phone.send(phone.request("PUBLISH"))
        assert "INVITE" in (await refused(bench, phone, 405))["Allow"]
        phone.to += ";tag=nobody"
        phone.send(phone.request("BYE"))
        await refused(bench, phone, 481)
        phone.new_call()
        phone.send(phone.request("CANCEL"))
        await refused(bench, phone, 481)
        phone.new_call()
        phone.send(phone.request("ACK"))
        await still_there(phone)
        assert bench.gateway.user_agent.counters["stray_ack"] == 1


async def test_a_number_nobody_has() -> None:
    async with house() as bench:
        phone = await bench.phone(user="somebody-else")
        phone.invite()
        await refused(bench, phone, 404)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(2):
        try:
            return await reader.read()
        except ConnectionResetError:  # closed with our octets unread
            return b""


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


TRUNK = "trunks: [{name: pbx, sources: [127.0.0.2/32]}]"


async def test_strangers_get_silence() -> None:
    async with house(config=TRUNK) as bench:
        stranger, friend = await bench.phone(), await bench.phone(host="127.0.0.2")
        stranger.invite()
        stranger.send(stranger.request("OPTIONS"))
        await friend.call()
        await friend.audio.hear(2)
        await friend.hang_up()
        assert stranger.messages == []
        assert bench.gateway.user_agent.counters["not_admitted_unknown_source"] == 2
        reader, writer = await asyncio.open_connection(*bench.address("tcp"))
        assert await read_to_end(reader) == b"", "and on TCP a closed door"
        await close(writer)
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_strangers_are_forbidden_where_that_is_wanted() -> None:
    async with house(config=f"{TRUNK}\nsip: {{unknown_sources: forbid}}") as bench:
        stranger = await bench.phone()
        stranger.invite()
        await refused(bench, stranger, 403)


async def test_a_forbidden_call_is_answered_once() -> None:
    """Its source may be forged, and whoever is there never acknowledges anything."""
    async with house(config=f"{TRUNK}\nsip: {{unknown_sources: forbid}}") as bench:
        stranger = await bench.phone()
        stranger.invite()
        await stranger.expect(403)
        assert bench.gateway.user_agent.transactions == 0
        assert [message.status for message in stranger.messages] == [403]


async def test_who_forbids_does_so_within_a_budget() -> None:
    """Answers to forged addresses are sent to somebody who never asked."""
    async with house(config=f"{TRUNK}\nsip: {{unknown_sources: forbid}}") as bench:
        stranger = await bench.phone()
        for _ in range(60):
            stranger.invite()
            await asyncio.sleep(0)  # else they leave all at once, and the socket's buffer decides
        counters = bench.gateway.user_agent.counters
        friend = await bench.phone(host="127.0.0.2")
        await friend.call()
        await friend.hang_up()
        assert 30 < counters["not_admitted_over_budget"] <= 40
        assert len({message.headers for message in stranger.messages if message.status == 403}) <= 30


async def test_a_full_node_says_so_and_when_to_come_back() -> None:
    async with house(config="limits: {max_calls: 1}") as bench:
        first, second = await bench.phone(), await bench.phone()
        await first.call()
        second.invite()
        full = await second.expect(503)
        second.ack_failure(full)
        assert int(full["Retry-After"]) > 0
        await first.hang_up()
        await bench.report()
        await second.call()
        await second.hang_up()


async def test_no_free_port_is_a_full_node_too() -> None:
    async with house(config="media: {ports: 28400-28401}") as bench:
        first, second = await bench.phone(), await bench.phone()
        await first.call()
        second.invite()
        full = await second.expect(503)
        second.ack_failure(full)
        assert "Retry-After" in full
        assert "Reason" in full
        await first.hang_up()


# --- streams ----------------------------------------------------------------------------------------------------------


async def test_a_message_in_pieces_waits_for_its_rest() -> None:
    async with house() as bench:
        phone = await bench.phone(transport="tcp")
        phone.new_call()
        text = phone.request("INVITE", body=describe(phone.audio.address))
        for start in range(0, len(text), 100):
            phone.send(text[start : start + 100])
            await still_there_on_udp(bench)
        answered = await phone.expect(200, "INVITE")
        phone.ack(answered)
        phone.bye()
        await phone.expect(200, "BYE")


async def still_there_on_udp(bench: House) -> None:
    """A round trip by another way: by then what was sent before has been read."""
    await still_there(await bench.phone())


async def test_several_messages_in_one_piece() -> None:
    async with house() as bench:
        phone = await bench.phone(transport="tcp")
        texts = []
        for _ in range(3):
            phone.new_call()
            texts.append(phone.request("OPTIONS"))
        phone.send(b"\r\n\r\n".join(texts))
        await phone.until(lambda: len(phone.statuses("OPTIONS")) == 3)


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS sip:agent@gateway.example.com SIP/2.0\r\n" + b"X-Filler: " + b"x" * 70_000,
        b"OPTIONS sip:agent@gateway.example.com SIP/2.0\r\n" + b"X-F: y\r\n" * 9_000,
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"OPTIONS sip:agent@gateway.example.com SIP/2.0\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["64 KiB in a line", "64 KiB of lines", "http", "tls", "no length"],
)
async def test_a_stream_that_cannot_be_cut_is_closed(data: bytes) -> None:
    async with house() as bench:
        reader, writer = await asyncio.open_connection(*bench.address("tcp"))
        writer.write(data)
        await read_to_end(reader)
        await close(writer)
        assert bench.gateway.user_agent.counters["stream_broken"] == 1
        await still_there_on_udp(bench)


async def test_a_connection_lost_in_mid_call_ends_nothing_by_itself() -> None:
    """The call is the dialog's, not the connection's: its audio goes on, and a BYE may come by another one."""
    async with house() as bench:
        phone = await bench.phone(transport="tcp")
        await phone.call()
        await phone._line.close()
        await phone.audio.hear(5)
        again = await bench.phone(transport="tcp")
        again.call_id, again.tag, again.to, again.target = phone.call_id, phone.tag, phone.to, phone.target
        again.sequence = phone.sequence
        again.bye()
        await again.expect(200, "BYE")
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
