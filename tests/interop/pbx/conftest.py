"""One Asterisk for all tests of this folder, a gateway on its trunk, and telephones behind it.

What the reader of docs/pbx/asterisk.md would write is read from there; the rest (telephones, what speaks and records)
is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.interop.asterisk import Asterisk
from tests.interop.baresip import Baresip
from tests.interop.gateway import GatewayProcess, free_on_both, running_gateway
from tests.interop.nodes import Node
from tests.interop.recipes import recipe
from tests.interop.sound import Samples, silence, tone, write_wav

ASTERISK = "127.0.0.5"
CALLER, DESK = "127.0.0.3", "127.0.0.8"
SPEECH_HERTZ, DESK_HERTZ = 600.0, 1100.0
NewPhone = Callable[..., Baresip]

# Extensions of the tests. RECORDINGS and SOUNDS are filled in when it is written.
DIALPLAN = """
[from-sipbridge](+)
; What the agent may call: extensions that answer, and that do not.
exten => listen,1,Answer()
 same => n,MixMonitor(RECORDINGS/mixed.wav,r(RECORDINGS/heard.wav)t(RECORDINGS/said.wav))
 same => n,Playback(SOUNDS/question)
 same => n,Hangup()
exten => desk,1,Answer()
 same => n,Playback(SOUNDS/desk)
exten => read,1,Answer()
 same => n,Read(PRESSED,,4,,1,8)
 same => n,UserEvent(Pressed,Keys: ${PRESSED})
 same => n,Hangup()
exten => busy,1,Busy()
exten => congested,1,Congestion()
exten => declined,1,Hangup(21)
exten => ringing,1,Ringing()
 same => n,Wait(60)
exten => gone,1,Answer()
 same => n,Wait(1)
 same => n,Hangup()

[tests]
; What Asterisk does in calls that it has placed to the agent.
exten => speak,1,MixMonitor(RECORDINGS/mixed.wav,r(RECORDINGS/heard.wav)t(RECORDINGS/said.wav))
 same => n,Playback(SOUNDS/question)
 same => n,Hangup()
exten => press,1,MixMonitor(RECORDINGS/mixed.wav,r(RECORDINGS/heard.wav))
 same => n,Wait(1)
 same => n,SendDTMF(${KEYS},200,150)
 same => n,Playback(SOUNDS/desk)
exten => stay,1,Playback(SOUNDS/desk)
 same => n,Playback(SOUNDS/desk)
 same => n,Playback(SOUNDS/desk)
exten => 701,1,MixMonitor(RECORDINGS/mixed.wav,r(RECORDINGS/said.wav)t(RECORDINGS/heard.wav))
 same => n,Dial(PJSIP/700@holding,30,b(tenant^s^1))
exten => 702,1,Dial(PJSIP/700@direct,30,b(tenant^s^1))

[from-internal](+)
include => tests
"""

PHONES = """
[global]
type=global
endpoint_identifier_order=username,ip

[phone](!)
type=endpoint
transport=transport-udp
context=from-internal
disallow=all
allow=ulaw,alaw
direct_media=no

[1000](phone)
[1000]
type=identify
endpoint=1000
match=CALLER

[1001](phone)
aors=1001
[1001]
type=aor
contact=sip:baresip@DESK
"""

# The same trunk in other moods: who calls as one of these is taken for it.
MOODS = {
    "holding": "moh_passthrough=yes",
    "direct": "direct_media=yes",
    "reliable": "100rel=required",
    "timed": "timers=always\ntimers_min_se=90\ntimers_sess_expires=90",
    "alaw": "disallow=all\nallow=alaw",
    "info": "dtmf_mode=info",
}


def mood(name: str, options: str, endpoint: str) -> str:
    """A copy of the recipe's endpoint with further options."""
    kept = [line for line in endpoint.splitlines() if line.partition("=")[0] not in options]
    return "\n".join(("", f"[{name}]", *kept, options, ""))


@pytest.fixture(scope="package")
def port() -> int:
    """Asterisk's, on UDP and TCP."""
    return free_on_both(ASTERISK)


@pytest.fixture(scope="package")
def desk_port() -> int:
    """Where telephone 1001 is, when it is."""
    return free_on_both(DESK)


@pytest.fixture(scope="package")
def trunk_process(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[GatewayProcess]:
    own = free_on_both("127.0.0.1")
    ours = {"10.0.0.20:5060": f"127.0.0.1:{own}", "10.0.0.20": "127.0.0.1"}
    theirs = {"10.0.0.5:5060": f"{ASTERISK}:{port}", "10.0.0.5/": f"{ASTERISK}/"}
    config = recipe("asterisk", "sipbridge.yaml: the trunk", {**ours, **theirs})
    tenant = recipe("asterisk", "tenants/acme.yaml: whom the caller talks to", {"10.0.0.5:5060": f"{ASTERISK}:{port}"})
    with running_gateway(
        tmp_path_factory.mktemp("gateway"),
        desk=f"sip:1001@{ASTERISK}:{port}",
        port=own,
        config=yaml.safe_load(config),
        tenants={"acme": yaml.safe_load(tenant)},
    ) as gateway:
        yield gateway


def configuration(folder: Path, gateway: str, port: int, desk_port: int) -> dict[str, str]:
    """The recipe's files, with telephones and the tests' extensions."""
    own = {"10.0.0.5:5060": f"{ASTERISK}:{port}"}
    ours = {"10.0.0.20:5060": gateway, "10.0.0.20": gateway.partition(":")[0]}
    pjsip = recipe("asterisk", "pjsip.conf: the trunk", {**own, **ours})
    endpoint = next(part for part in pjsip.split("[sipbridge]\n") if part.startswith("type=endpoint"))
    moods = "".join(mood(name, options, endpoint) for name, options in MOODS.items())
    phones = PHONES.replace("CALLER", CALLER).replace("DESK", f"{DESK}:{desk_port}")
    extensions = recipe("asterisk", "extensions.conf: the way to the agent, and what the agent can reach", {})
    dialplan = DIALPLAN.replace("RECORDINGS", str(folder / "recordings")).replace("SOUNDS", str(folder))
    return {"pjsip.conf": pjsip + moods + phones, "extensions.conf": extensions + dialplan}


@pytest.fixture(scope="package")
def asterisk_process(
    tmp_path_factory: pytest.TempPathFactory, trunk_process: GatewayProcess, port: int, desk_port: int
) -> Iterator[Asterisk]:
    folder = tmp_path_factory.mktemp("asterisk")
    # In the middle of the greeting a tone interrupts it, and there is time for it to come back.
    write_wav(folder / "question.wav", np.concatenate((silence(1.5), tone(SPEECH_HERTZ, 1), silence(3.5))))
    write_wav(folder / "desk.wav", tone(DESK_HERTZ, 20))
    with Asterisk(folder, ASTERISK, configuration(folder, trunk_process.target, port, desk_port)) as asterisk:
        yield asterisk


@pytest.fixture
def trunk(trunk_process: GatewayProcess) -> GatewayProcess:
    """The gateway that Asterisk calls, with the calls of earlier tests forgotten."""
    trunk_process.forget()
    return trunk_process


@pytest.fixture
def asterisk(asterisk_process: Asterisk) -> Asterisk:
    """The PBX, with the calls of earlier tests forgotten."""
    asterisk_process.forget()
    return asterisk_process


@pytest.fixture(scope="package")
def dialler(asterisk_process: Asterisk, port: int) -> Iterator[Node]:
    """A gateway that calls Asterisk's extensions."""
    way = {"proxy": f"sip:{ASTERISK}:{port}", "ping_seconds": 0}
    config = {"trunks": [{"name": "pbx", "sources": [ASTERISK], "outbound": way}]}
    with Node(config, desk=f"sip:desk@{ASTERISK}:{port}") as node:
        yield node


@pytest.fixture
def phone(tmp_path: Path, desk_port: int) -> Iterator[NewPhone]:
    """Makes the telephones 1000, which calls (`caller`), and 1001, which answers (`desk`)."""
    with ExitStack() as stack:

        def new(which: str, says: Samples | None = None) -> Baresip:
            folder = tmp_path / which
            folder.mkdir()
            sound = np.concatenate((silence(1) if says is None else says, silence(60)))
            wav = write_wav(folder / "says.wav", sound)
            answers = which == "desk"
            where = {"address": DESK, "port": desk_port} if answers else {"address": CALLER}
            return stack.enter_context(Baresip(folder, says=wav, answers=answers, **where))  # type: ignore[arg-type]

        yield new
