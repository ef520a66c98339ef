"""Registration over real sockets: a phone at the gateway, and the gateway at a registrar with moods."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Self

import pytest

from sipbridge import registrations
from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.gateway import Gateway
from sipbridge.outcome import Ended
from sipbridge.sip.registration import RegistrationState
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant
from tests.loopback.house import Clock, house
from tests.loopback.phone import Message, Phone
from tests.loopback.waiting import Watched

ACCOUNT = "sip: {accounts: [{username: 555-0123, password: pass word}]}"


def authorization(
    challenge: Message, method: str, uri: str, *, algorithm: str = "MD5", qop: bool = False, password: str = "pass word"
) -> tuple[str, str]:
    """Digest by hand, and by hashlib only: plain MD5 as old phones know it, or with qop and another hash."""
    hashed = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm]
    offer = next(v for v in challenge.all("WWW-Authenticate") if f"algorithm={algorithm}" in v)
    nonce = re.search(r'nonce="([^"]+)"', offer)
    assert nonce is not None

    def h(*parts: str) -> str:
        return hashed(":".join(parts).encode()).hexdigest()

    middle = ("00000001", "c0ffee", "auth") if qop else ()
    response = h(h("555-0123", "sipbridge", password), nonce[1], *middle, h(method, uri))
    value = f'Digest username="555-0123", realm="sipbridge", nonce="{nonce[1]}", uri="{uri}", response="{response}"'
    value += f", algorithm={algorithm}"
    return "Authorization", value + (', qop=auth, nc=00000001, cnonce="c0ffee"' if qop else "")


async def registered(phone: Phone, *, expires: int = 60, password: str = "pass word") -> Message:
    """REGISTER, the challenge, and the answer to the second one."""
    phone.new_call()
    phone.to = "<sip:555-0123@gateway.example.com>"
    uri = "sip:gateway.example.com"
    phone.send(phone.request("REGISTER", uri=uri, headers=(("Expires", str(expires)),)))
    challenge = await phone.expect(401, "REGISTER")
    proof = authorization(challenge, "REGISTER", uri, password=password)
    phone.send(phone.request("REGISTER", uri=uri, headers=(("Expires", str(expires)), proof)))
    return challenge


async def test_a_phone_registers_and_calls() -> None:
    async with house(config=ACCOUNT) as bench:
        phone = await bench.phone()
        await registered(phone)
        answer = await phone.expect(200, "REGISTER")
        assert answer["Contact"] == f"<sip:phone@{phone.here}>;expires=60"
        (binding,) = bench.gateway.registrations.find("555-0123")
        assert binding.flow.remote == ("127.0.0.1", int(phone.here.rpartition(":")[2]))

        phone.invite()
        challenge = await phone.expect(401, "INVITE")
        phone.ack_failure(challenge)
        proof = authorization(challenge, "INVITE", phone.target, algorithm="SHA-256", qop=True)
        again = phone.invite_text.replace(b"CSeq: 1 ", b"CSeq: 2 ").replace(b"branch=", b"branch=z9hG4bKb-", 1)
        head, _, body = again.partition(b"\r\n\r\n")
        phone.sequence = 2
        phone.send(head + f"\r\n{proof[0]}: {proof[1]}".encode() + b"\r\n\r\n" + body)
        answered = await phone.expect(200, "INVITE")
        phone.ack(answered)
        phone.audio.connect(answered.rtp)
        await phone.audio.hear(2)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        assert phone.statuses("INVITE").count(401) == 1


async def test_who_guesses_is_not_heard_any_more() -> None:
    async with house(config=ACCOUNT) as bench:
        guesser = await bench.phone(host="127.0.0.9")
        for number in range(5):
            await registered(guesser, password=f"guess {number}")
            if number < 4:
                await guesser.expect(401, "REGISTER")
        phone = await bench.phone()
        await registered(phone)
        await phone.expect(200, "REGISTER")
        assert bench.gateway.user_agent.counters["sources_blocked"] == 1
        heard = len(guesser.messages)
        guesser.send(guesser.request("OPTIONS"))
        phone.send(phone.request("OPTIONS"))
        await phone.expect(200, "OPTIONS")
        assert len(guesser.messages) == heard


# --- the gateway registers --------------------------------------------------------------------------------------------


class Registrar(Watched, asyncio.DatagramProtocol):
    """A registrar's socket. It answers what the test says; `automatic`: 200 to everything."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: list[tuple[Message, tuple[str, int]]] = []
        self.seen: list[Message] = []
        self.automatic = False
        self.port = 0
        self._transport: asyncio.DatagramTransport

    @classmethod
    async def open(cls) -> Self:
        loop = asyncio.get_running_loop()
        transport, self = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        return self

    def close(self) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = Message.parse(data)
        if message.start_line.startswith("REGISTER "):
            self.seen.append(message)
            self.unread.append((message, addr))
            if self.automatic:
                self.answer(message, addr, 200)
        self.changed()

    async def request(self) -> tuple[Message, tuple[str, int]]:
        await self.until(lambda: bool(self.unread))
        return self.unread.pop(0)

    def answer(self, request: Message, addr: tuple[str, int], status: int, *headers: str) -> None:
        copied = [f"{n}: {v}" for n, v in request.headers if n in ("Via", "From", "To", "Call-ID", "CSeq")]
        lines = [f"SIP/2.0 {status} Whatever", *copied, *headers, "Content-Length: 0", "", ""]
        self._transport.sendto("\r\n".join(lines).encode(), addr)


def gateway_at(port: int, clock: Clock) -> Gateway:
    text = f"""
sip: {{listen: ['udp://127.0.0.1:0']}}
media: {{ports: 28500-28599}}
trunks:
  - name: pbx
    sources: ['127.0.0.1/32']
    register: {{server: 'sip:127.0.0.1:{port}', username: '7000', password: pass word, expires: 300}}
"""
    tenant = Tenant("t", parse("agent: {provider: offline}", TenantConfig, "t.yaml"))
    return Gateway(parse(text, Config, "sipbridge.yaml"), TenantDirectory([tenant]), clock=clock)


class Moods(Watched):
    """A gateway that registers, and its registrar."""

    def __init__(self, registrar: Registrar, gateway: Gateway, clock: Clock) -> None:
        super().__init__()
        self.registrar, self.gateway, self.clock = registrar, gateway, clock

    async def reaches(self, state: RegistrationState) -> None:
        """A request of ours is answered after what was sent before: then that has been dealt with."""
        phone = await Phone.open(self.gateway.transport.address("udp"))
        for _ in range(20):
            phone.new_call()
            phone.send(phone.request("OPTIONS"))
            await phone.expect(200, "OPTIONS")
            if self.gateway.registrations.at["pbx"].state is state:
                break
        await phone.close()
        assert self.gateway.registrations.at["pbx"].state is state

    def pass_time(self, seconds: float) -> None:
        self.clock.ahead += seconds
        self.gateway.user_agent.handle_timer(self.clock())
        self.gateway.transport.flush()


async def test_the_gateway_registers_through_everything_and_says_good_bye() -> None:
    registrar, clock = await Registrar.open(), Clock()
    gateway = gateway_at(registrar.port, clock)
    moods = Moods(registrar, gateway, clock)
    async with gateway:
        first, addr = await registrar.request()
        assert first.start_line == f"REGISTER sip:127.0.0.1:{registrar.port} SIP/2.0"
        contact = first["Contact"].partition(">")[0] + ">"
        assert contact == f"<sip:7000@127.0.0.1:{gateway.transport.address('udp')[1]}>"
        registrar.answer(first, addr, 401, 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=MD5')
        second, _ = await registrar.request()
        assert 'username="7000"' in second["Authorization"]
        registrar.answer(second, addr, 423, "Min-Expires: 600")
        third, _ = await registrar.request()
        assert (third["Expires"], third["CSeq"]) == ("600", "3 REGISTER")
        registrar.answer(third, addr, 200, f"Contact: {contact};expires=600")
        await moods.reaches(RegistrationState.REGISTERED)

        moods.pass_time(460.0)
        refresh, _ = await registrar.request()
        assert "nc=00000003" in refresh["Authorization"]
        registrar.answer(refresh, addr, 503, "Retry-After: 2")
        await moods.reaches(RegistrationState.WAITING)
        moods.pass_time(6.0)
        again, _ = await registrar.request()
        registrar.answer(again, addr, 200, f"Contact: {contact};expires=600")
        await moods.reaches(RegistrationState.REGISTERED)
        assert len({message["Call-ID"] for message in registrar.seen}) == 1
        registrar.automatic = True
    last = registrar.seen[-1]
    assert (last["Expires"], last["Contact"]) == ("0", f"{contact};expires=0")
    assert gateway.registrations.at["pbx"].state is RegistrationState.ENDED
    registrar.close()


async def test_a_gateway_that_drains_is_not_registered_any_more() -> None:
    registrar, clock = await Registrar.open(), Clock()
    gateway = gateway_at(registrar.port, clock)
    moods = Moods(registrar, gateway, clock)
    async with asyncio.timeout(5), gateway:
        request, addr = await registrar.request()
        registrar.answer(request, addr, 200)
        await moods.reaches(RegistrationState.REGISTERED)
        await gateway.drain(1)
        last, addr = await registrar.request()
        assert last["Expires"] == "0"
        registrar.answer(last, addr, 200)
    assert registrar.seen[-1] is last
    assert gateway.registrations.at["pbx"].state is RegistrationState.ENDED
    registrar.close()


async def test_a_registrar_that_has_gone_away_does_not_hold_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "GOODBYE_SECONDS", 0.2)
    registrar, clock = await Registrar.open(), Clock()
    gateway = gateway_at(registrar.port, clock)
    moods = Moods(registrar, gateway, clock)
    async with asyncio.timeout(5), gateway:
        request, addr = await registrar.request()
        registrar.answer(request, addr, 200)
        await moods.reaches(RegistrationState.REGISTERED)
        moods.pass_time(290.0)
        await registrar.request()
        moods.pass_time(33.0)
        await moods.reaches(RegistrationState.WAITING)
        registration = gateway.registrations.at["pbx"]
        assert (registration.status, registration.is_registered(clock())) == (408, False)
    assert registrar.seen[-1]["Expires"] == "0"
    assert gateway.registrations.at["pbx"].state is RegistrationState.UNREGISTERING
    registrar.close()
