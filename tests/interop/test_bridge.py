"""Transfers that the gateway makes itself: a second leg, and two real telephones connected over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.interop import sipp
from tests.interop.baresip import Baresip, wait_for_sound
from tests.interop.gateway import GatewayProcess, offline, running_gateway
from tests.interop.peers import free_port
from tests.interop.sound import Samples, loud_seconds, silence, tone, tone_seconds, write_wav

pytestmark = pytest.mark.interop

CALLER, DESK = "127.0.0.14", "127.0.0.15"
CALLER_HERTZ, DESK_HERTZ = 700.0, 1100.0
NewPhone = Callable[..., Baresip]


@pytest.fixture(scope="module")
def desk_port() -> int:
    return free_port(DESK)


@pytest.fixture(scope="module")
def gateway_process(tmp_path_factory: pytest.TempPathFactory, desk_port: int) -> Iterator[GatewayProcess]:
    """Tenants: `agent` refers and else bridges, `bridge` bridges, `asks` asks first."""
    desk = f"sip:baresip@{DESK}:{desk_port}"
    tenants = {}
    for name, how in (("bridge", {"via": "bridge"}), ("asks", {"mode": "attended", "via": "bridge"})):
        tenants[name] = offline(name, desk)
        tenants[name]["tools"]["transfer_call"] |= how
    outbound = {"proxy": f"sip:{DESK}:{desk_port}", "ping_seconds": 0}
    with running_gateway(
        tmp_path_factory.mktemp("bridging"),
        desk=desk,
        config={"trunks": [{"name": "house", "sources": ["127.0.0.0/8"], "outbound": outbound}]},
        tenants=tenants,
    ) as gateway:
        yield gateway


@pytest.fixture
def gateway(gateway_process: GatewayProcess) -> GatewayProcess:
    gateway_process.forget()
    return gateway_process


@pytest.fixture
def phone(tmp_path: Path, desk_port: int) -> Iterator[NewPhone]:
    with ExitStack() as stack:

        def new(address: str, says: Samples, **how: object) -> Baresip:
            folder = tmp_path / address
            folder.mkdir()
            wav = write_wav(folder / "says.wav", np.concatenate((says, silence(60))))
            if address == DESK:
                how |= {"port": desk_port, "answers": True}
            return stack.enter_context(Baresip(folder, address=address, says=wav, **how))  # type: ignore[arg-type]

        yield new


def transferred(gateway: GatewayProcess, caller: Baresip, tenant: str) -> None:
    """The caller has asked for it."""
    caller.dial(gateway.uri(tenant))
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.press("*")


def pressed(phone: Baresip) -> str:
    """The next key that it was told of."""
    return str(phone.wait_event("CALL_DTMF_START")["param"])


def test_sipp_refuses_the_refer_and_is_bridged(gateway: GatewayProcess, phone: NewPhone, tmp_path: Path) -> None:
    desk = phone(DESK, tone(DESK_HERTZ, 30))
    messages = sipp.run(tmp_path / "sipp", "refer_refused", gateway.target)
    assert any(message.start_line.startswith("REFER") for message in messages)
    desk.wait_event("CALL_CLOSED")
    assert tone_seconds(desk.heard(), sipp.TONE_HERTZ) > 3
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "transferred"


def test_two_telephones_hear_each_other_and_each_other_s_keys(gateway: GatewayProcess, phone: NewPhone) -> None:
    # The caller is silent until the two are connected: what it says before is the embedded model's to answer.
    desk = phone(DESK, tone(DESK_HERTZ, 30))
    caller = phone(CALLER, np.concatenate((silence(8), tone(CALLER_HERTZ, 20))))
    transferred(gateway, caller, "bridge")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 1)
    wait_for_sound(desk, lambda heard: tone_seconds(heard, CALLER_HERTZ) > 1)
    for one, other in ((caller, desk), (desk, caller)):
        for key in "5#":
            one.press(key)
            assert pressed(other) == key
    desk.hang_up()
    caller.wait_event("CALL_CLOSED")
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "transferred"


def test_codecs_that_differ(gateway: GatewayProcess, phone: NewPhone) -> None:
    desk = phone(DESK, tone(DESK_HERTZ, 30), codec="PCMA")
    caller = phone(CALLER, np.concatenate((silence(8), tone(CALLER_HERTZ, 20))), codec="PCMU")
    transferred(gateway, caller, "bridge")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 1)
    wait_for_sound(desk, lambda heard: tone_seconds(heard, CALLER_HERTZ) > 1)
    caller.hang_up()
    desk.wait_event("CALL_CLOSED")


def test_hold_and_resume_of_either_telephone(gateway: GatewayProcess, phone: NewPhone) -> None:
    desk = phone(DESK, tone(DESK_HERTZ, 30))
    caller = phone(CALLER, silence(1))
    transferred(gateway, caller, "bridge")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 1)
    for holder, other in ((caller, desk), (desk, caller)):
        for verb in ("hold", "resume"):
            holder.forget_events()
            holder.command(verb, may_fail=True)
            holder.wait_event("CALL_REMOTE_SDP")
        holder.press("7")  # its recording ends with the first re-INVITE: that the call goes on is seen by a key
        assert pressed(other) == "7"
    caller.hang_up()
    desk.wait_event("CALL_CLOSED")
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "transferred"


def test_who_is_asked_first_hears_why_and_takes_the_call_by_a_key(gateway: GatewayProcess, phone: NewPhone) -> None:
    desk = phone(DESK, tone(DESK_HERTZ, 30))
    caller = phone(CALLER, silence(1))
    transferred(gateway, caller, "asks")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(desk, lambda heard: loud_seconds(heard) > 1)
    assert tone_seconds(caller.heard(), DESK_HERTZ) == 0
    desk.press("1")
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 1)
    caller.hang_up()
    desk.wait_event("CALL_CLOSED")
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "transferred"
