"""The torture messages of RFC 4475 and RFC 5118 over real sockets: what a user agent answers to each, and that nothing
raises on the way. What the parser makes of them is in `tests/sip/test_rfc4475.py` and `test_rfc5118.py`."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from sipbridge.sip.flow import Transport
from tests.loopback.endpoints import Endpoint, endpoint, raw_tcp, raw_udp, run
from tests.sip import test_rfc4475, test_rfc5118
from tests.sip.wire import request

TRYING = {100}
"""An INVITE that the user agent takes: what becomes of it is the call's affair."""
NOTHING: set[int] = set()
NO_REGISTRAR = {405}


class Case(NamedTuple):
    name: str
    udp: set[int]
    tcp: set[int] | None = None
    """Where it differs; None where it does not."""


RFC4475 = [
    Case("wsinv", {481}),  # its To has a tag, of a dialog that does not exist
    Case("intmeth", {405}),
    Case("esc01", TRYING),
    Case("escnull", NO_REGISTRAR),
    Case("esc02", {405}),
    Case("lwsdisp", {200}),
    Case("longreq", TRYING),
    Case("dblreq", NO_REGISTRAR, NO_REGISTRAR | {400}),  # on a stream there is an INVITE after it, without a Contact
    Case("semiuri", {200}),
    Case("transports", {200}),
    Case("mpart01", {405}),
    Case("unreason", NOTHING),
    Case("noreason", NOTHING),
    Case("badinv01", {400}),
    Case("clerr", {400}, NOTHING),  # on a stream the rest may still come
    Case("ncl", {400}, NOTHING),  # on a stream nobody can tell where it ends: closed
    Case("scalar02", {400}),
    Case("scalarlg", NOTHING),
    Case("quotbal", {400}),
    Case("ltgtruri", {400}),
    Case("lwsruri", {400}),
    Case("lwsstart", {400}),
    Case("trws", {400}),
    Case("escruri", {400}),
    Case("baddate", TRYING),
    Case("regbadct", NO_REGISTRAR),
    Case("badaspec", {400}),
    Case("baddn", {400}),
    Case("badvers", {505}),
    Case("mismatch01", {400}),
    Case("mismatch02", {400}),
    Case("bigcode", NOTHING),
    Case("badbranch", {400}),
    Case("insuf", {400}),
    Case("unkscm", {416}),
    Case("novelsc", {416}),
    Case("unksm2", NO_REGISTRAR),
    Case("bext01", {420}),
    Case("invut", {415}),
    Case("regaut01", NO_REGISTRAR),
    Case("multi01", {400}),
    Case("mcl01", {400}, NOTHING),  # closed
    Case("bcast", NOTHING),
    Case("zeromf", {200}),
    Case("cparam01", NO_REGISTRAR),
    Case("cparam02", NO_REGISTRAR),
    Case("regescrt", NO_REGISTRAR),
    Case("sdp01", {406}),
    Case("inv2543", TRYING),
]
RFC5118 = [
    Case("ipv6-good", NO_REGISTRAR),
    Case("ipv6-bad", {400}),
    Case("port-ambiguous", NO_REGISTRAR),
    Case("port-unambiguous", NO_REGISTRAR),
    Case("via-received-param-with-delim", {481}),
    Case("via-received-param-no-delim", {481}),
    Case("ipv6-in-sdp", TRYING),
    Case("mult-ip-in-header", {481}),
    Case("mult-ip-in-sdp", TRYING),
    Case("ipv4-mapped-ipv6", TRYING),
    Case("ipv6-bug-abnf-3-colons", {200}),
    Case("ipv6-correct-abnf-2-colons", {200}),
]

MESSAGES = [(case, test_rfc4475.read(case.name)) for case in RFC4475]
MESSAGES += [(case, test_rfc5118.read(case.name)) for case in RFC5118]

_STATUS = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2}) ")
_PROBE = "z9hG4bKprobe"


def test_the_table_has_every_message() -> None:
    for table, module in ((RFC4475, test_rfc4475), (RFC5118, test_rfc5118)):
        assert sorted(case.name for case in table) == sorted(path.stem for path in module.DATA.glob("*.dat"))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("case", "data"), MESSAGES, ids=[case.name for case, _ in MESSAGES])
def test_each_gets_what_the_rfc_says(case: Case, data: bytes, transport: Transport) -> None:
    raised: list[object] = []

    async def scenario(stack: AsyncExitStack) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        target = await endpoint(stack)
        if transport == "udp":
            assert await answers_by_udp(stack, target, data) == case.udp
        else:
            assert await answers_by_tcp(stack, target, data) == (case.udp if case.tcp is None else case.tcp)

    with capture_logs() as logs:
        run(scenario)
    assert raised == []
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []


async def answers_by_udp(stack: AsyncExitStack, target: Endpoint, data: bytes) -> set[int]:
    """The statuses of the answers. An OPTIONS goes after it: by the time of its answer all have come."""
    sender, receiver = await raw_udp(stack, target)
    sender.sendto(data)
    sender.sendto(request("OPTIONS", branch=_PROBE, call_id="probe"))
    found: set[int] = set()
    while True:
        answer, _ = await asyncio.wait_for(receiver.received.get(), 5)
        if _PROBE.encode() in answer:
            return found
        found.add(_status(answer))


async def answers_by_tcp(stack: AsyncExitStack, target: Endpoint, data: bytes) -> set[int]:
    """All that comes until the connection is closed, which we close on our side."""
    reader, writer = await raw_tcp(stack, target)
    writer.write(data)
    writer.write_eof()
    try:
        received = await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:  # closed with octets of ours unread
        received = b""
    return {int(status) for status in _STATUS.findall(received)}


def _status(answer: bytes) -> int:
    match = _STATUS.match(answer)
    assert match, answer
    return int(match[1])
