"""One Asterisk for all tests of this folder, a gateway on its trunk, and telephones behind it.

What the reader of docs/pbx/asterisk.md would write is read from there; the rest (telephones, what speaks and records)
is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.interop.asterisk import Asterisk
from tests.interop.baresip import Baresip
from tests.interop.gateway import GatewayProcess, free_on_both, offline, running_gateway
from tests.interop.nodes import Node
from tests.interop.recipes import recipe
from tests.interop.sound import Samples, silence, tone, write_wav
from tests.sip.certificates import Authority

ASTERISK = "127.0.0.5"
CALLER, DESK, OPERATOR = "127.0.0.3", "127.0.0.8", "127.0.0.10"
SECURE, EXTENSION, OFFICE = "127.0.0.9", "127.0.0.12", "127.0.0.13"
"""Gateways with trunks of their own: over TLS, as an extension of Asterisk's, and Asterisk as an account of ours."""
SPEECH_HERTZ, DESK_HERTZ, WIDE_HERTZ, CALLER_HERTZ = 600.0, 1100.0, 5000.0, 700.0
PASSWORD = "correct horse battery staple"
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
 same => n,Read(FIRST,SOUNDS/beep,1,,1,5)
 same => n,Read(SECOND,SOUNDS/beep,1,,1,5)
 same => n,Read(THIRD,SOUNDS/beep,1,,1,5)
 same => n,UserEvent(Pressed,Keys: ${FIRST}${SECOND}${THIRD})
 same => n,Hangup()
exten => types,1,Answer()
 same => n,Playback(SOUNDS/beep)
 same => n,Wait(1)
 same => n,SendDTMF(99*4711#,150,150)
 same => n,Wait(10)
exten => busy,1,Busy()
exten => congested,1,Congestion()
exten => declined,1,Hangup(21)
exten => ringing,1,Ringing()
 same => n,Wait(60)
exten => moves,1,Answer()
 same => n,Wait(1)
 same => n,Transfer(PJSIP/sip:listen@ASTERISK)
 same => n,UserEvent(Moved,Status: ${TRANSFERSTATUS})
 same => n,Wait(10)
exten => strays,1,Answer()
 same => n,Wait(1)
 same => n,Transfer(PJSIP/sip:forbidden@ASTERISK)
 same => n,UserEvent(Moved,Status: ${TRANSFERSTATUS})
 same => n,Hangup()
exten => stays,1,Answer()
 same => n,Playback(SOUNDS/desk)
 same => n,Playback(SOUNDS/desk)
 same => n,Playback(SOUNDS/desk)
 same => n,Hangup()
exten => gone,1,Answer()
 same => n,Wait(1)
 same => n,Hangup()

[tests]
; What Asterisk does in calls that it has placed to the agent.
exten => speak,1,MixMonitor(RECORDINGS/mixed.wav,r(RECORDINGS/heard.wav)t(RECORDINGS/said.wav))
 same => n,Playback(SOUNDS/question)
 same => n,Hangup()
exten => speak_wide,1,MixMonitor(RECORDINGS/mixed.wav16,r(RECORDINGS/heard.wav16)t(RECORDINGS/said.wav16))
 same => n,Playback(SOUNDS/wide)
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
exten => 703,1,Dial(PJSIP/703@sipbridge,30)
exten => 704,1,Dial(PJSIP/704@sipbridge,30)
exten => 705,1,Dial(PJSIP/705@sipbridge,30)
exten => partner,1,Dial(Local/listen@from-sipbridge)
exten => consulted,1,Dial(Local/desk@from-sipbridge)
exten => external_replaces,1,Dial(PJSIP/agent@dialler)
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
direct_media=yes ; where the other side wants that, too
[1000]
type=identify
endpoint=1000
match=CALLER

[1002](phone)
set_var=TRANSFER_CONTEXT=tests
[1002]
type=identify
endpoint=1002
match=OPERATOR

; The gateway that calls, where it is called itself.
[dialler](phone)
aors=dialler
[dialler]
type=aor
contact=sip:DIALLER

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
    "wide": recipe("asterisk", "pjsip.conf: wideband, in place of disallow and allow", {}),
    "sdes": recipe("asterisk", "pjsip.conf: sound encrypted with SDES", {}),
    "dtls": recipe("asterisk", "pjsip.conf: sound encrypted with DTLS", {}),
    "g722": "disallow=all\nallow=g722",
    "opus": "disallow=all\nallow=opus",
}


def mood(name: str, options: str, endpoint: str) -> str:
    """A copy of the recipe's endpoint with further options."""
    kept = [line for line in endpoint.splitlines() if line.partition("=")[0] not in options]
    return "\n".join(("", f"[{name}]", *kept, options, ""))


@dataclass(frozen=True)
class Places:
    """HOST:PORT of everybody, free when the tests began."""

    asterisk: str
    asterisk_tls: str
    gateway: str
    gateway_tls: str
    dialler: str
    extension: str
    office: str
    desk: str


@pytest.fixture(scope="package")
def places() -> Places:
    gateway = "127.0.0.1"
    addresses = (ASTERISK, ASTERISK, gateway, SECURE, gateway, EXTENSION, OFFICE, DESK)
    return Places(*(f"{address}:{free_on_both(address)}" for address in addresses))


@pytest.fixture(scope="package")
def trunk_process(tmp_path_factory: pytest.TempPathFactory, places: Places) -> Iterator[GatewayProcess]:
    ours = {"10.0.0.20:5060": places.gateway, "10.0.0.20": "127.0.0.1"}
    theirs = {"10.0.0.5:5060": places.asterisk, "10.0.0.5/": f"{ASTERISK}/"}
    config = recipe("asterisk", "sipbridge.yaml: the trunk", {**ours, **theirs})
    tenant = recipe("asterisk", "tenants/acme.yaml: whom the caller talks to", {"10.0.0.5:5060": places.asterisk})
    desk = f"sip:1001@{places.asterisk}"
    tenants = {"acme": yaml.safe_load(tenant), "asks": offline("703", desk), "bridges": offline("704", desk)}
    tenants["asks"]["tools"]["transfer_call"] |= {"mode": "attended"}
    tenants["bridges"]["tools"]["transfer_call"] |= {"via": "bridge"}
    tenants["recorder"] = offline("705", f"sip:listen@{places.asterisk}")
    with running_gateway(
        tmp_path_factory.mktemp("gateway"),
        desk=desk,
        port=int(places.gateway.rpartition(":")[2]),
        config=yaml.safe_load(config),
        tenants=tenants,
    ) as gateway:
        yield gateway


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a private authority for both sides, in the names of their addresses."""
    folder = tmp_path_factory.mktemp("keys")
    authority = Authority(folder)
    authority.issue(ASTERISK, stem="asterisk")
    authority.issue(SECURE, stem="sipbridge")
    return folder


def configuration(folder: Path, keys: Path, places: Places) -> dict[str, str]:
    """The recipe's files, with telephones and the tests' extensions."""
    addresses = {"10.0.0.5:5060": places.asterisk, "10.0.0.20:5060": places.gateway, "10.0.0.20": "127.0.0.1"}
    pjsip = recipe("asterisk", "pjsip.conf: the trunk", addresses)
    addresses = {"10.0.0.5:5061": places.asterisk_tls, "10.0.0.20:5061": places.gateway_tls, "10.0.0.20": SECURE}
    secure = recipe("asterisk", "pjsip.conf: the trunk over TLS", {**addresses, "/etc/asterisk/keys": str(keys)})
    pjsip += recipe("asterisk", "pjsip.conf: sipbridge as an extension", {"CHANGE-ME": PASSWORD})
    addresses = {"10.0.0.20:5060": places.office, "CHANGE-ME": PASSWORD}
    pjsip += recipe("asterisk", "pjsip.conf: registered at sipbridge", addresses)
    endpoint = next(part for part in pjsip.split("[sipbridge]\n") if part.startswith("type=endpoint"))
    moods = "".join(mood(name, options, endpoint) for name, options in MOODS.items())
    phones = PHONES.replace("CALLER", CALLER).replace("OPERATOR", OPERATOR).replace("DESK", places.desk)
    phones = phones.replace("DIALLER", places.dialler)
    extensions = recipe("asterisk", "extensions.conf: the way to the agent, and what the agent can reach", {})
    dialplan = DIALPLAN.replace("RECORDINGS", str(folder / "recordings")).replace("SOUNDS", str(folder))
    dialplan = dialplan.replace("ASTERISK", places.asterisk)
    return {"pjsip.conf": pjsip + secure + moods + phones, "extensions.conf": extensions + dialplan}


@pytest.fixture(scope="package")
def secure_node(keys: Path, places: Places) -> Iterator[Node]:
    """The gateway that speaks TLS with Asterisk."""
    addresses = {"10.0.0.5:5061": places.asterisk_tls, "10.0.0.5/": f"{ASTERISK}/"}
    ours = {"10.0.0.20:5061": places.gateway_tls, "10.0.0.20": SECURE}
    config = recipe("asterisk", "sipbridge.yaml: the trunk over TLS", {**addresses, **ours, "keys/": f"{keys}/"})
    with Node(yaml.safe_load(config), desk=f"sip:desk@{places.asterisk_tls}", address=SECURE) as node:
        yield node


def node(title: str, target: str, replace: Mapping[str, str], *, desk: str) -> Node:
    """A gateway configured by one of the recipe's blocks, at HOST:PORT."""
    address, _, own = target.rpartition(":")
    text = recipe("asterisk", title, {"10.0.0.20:5060": target, "10.0.0.20": address, **replace})
    return Node(yaml.safe_load(text), desk=desk, address=address, port=int(own))


@pytest.fixture(scope="package")
def office_node(places: Places) -> Iterator[Node]:
    """The gateway that Asterisk registers at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFICE_PASSWORD", PASSWORD)
        with node("sipbridge.yaml: Asterisk registers here", places.office, {}, desk="tel:+15550100") as office:
            yield office


def sounds(folder: Path) -> None:
    """What the dialplan plays."""
    # In the middle of the greeting a tone interrupts it, and there is time for it to come back.
    write_wav(folder / "question.wav", np.concatenate((silence(1.5), tone(SPEECH_HERTZ, 1), silence(3.5))))
    wide = np.concatenate((silence(1.5, 16000), tone(WIDE_HERTZ, 1, rate=16000), silence(3.5, 16000)))
    write_wav(folder / "wide.wav16", wide, 16000)
    write_wav(folder / "beep.wav", np.concatenate((tone(DESK_HERTZ, 0.3), silence(1))))
    write_wav(folder / "desk.wav", tone(DESK_HERTZ, 20))


@pytest.fixture(scope="package")
def asterisk_process(
    tmp_path_factory: pytest.TempPathFactory,
    trunk_process: GatewayProcess,
    secure_node: Node,
    office_node: Node,
    keys: Path,
    places: Places,
) -> Iterator[Asterisk]:
    # The gateways are there already: whom Asterisk has once found away, it does not call until it asks again.
    folder = tmp_path_factory.mktemp("asterisk")
    sounds(folder)
    with Asterisk(folder, ASTERISK, configuration(folder, keys, places)) as asterisk:
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
def dialler_node(asterisk_process: Asterisk, places: Places) -> Iterator[Node]:
    way = {"proxy": f"sip:{places.asterisk}", "ping_seconds": 0}
    trunk = {"name": "pbx", "sources": [ASTERISK, OPERATOR], "outbound": way}
    allowed = {"accept_refer": True, "refer_targets": ["listen"]}
    own = int(places.dialler.rpartition(":")[2])
    impatient = {"name": "impatient", "sources": ["127.0.0.99"], "outbound": {**way, "ring_seconds": 1}}
    config = {
        "trunks": [{**trunk, **allowed}, impatient],
        "sip": {"session_timers": {"expires_seconds": 90, "refresher": "us"}},
    }
    with Node(config, desk=f"sip:desk@{places.asterisk}", port=own) as node:
        yield node


@pytest.fixture
def dialler(dialler_node: Node) -> Node:
    """A gateway that calls Asterisk's extensions."""
    dialler_node.forget()
    return dialler_node


@pytest.fixture
def phone(tmp_path: Path, places: Places) -> Iterator[NewPhone]:
    """Makes the telephones 1000, which calls (`caller`), and 1001, which answers (`desk`)."""
    with ExitStack() as stack:

        def new(which: str, says: Samples | None = None) -> Baresip:
            folder = tmp_path / which
            folder.mkdir()
            sound = np.concatenate((silence(1) if says is None else says, silence(60)))
            wav = write_wav(folder / "says.wav", sound)
            answers = which == "desk"
            where = {"address": DESK, "port": int(places.desk.rpartition(":")[2])} if answers else {"address": CALLER}
            return stack.enter_context(Baresip(folder, says=wav, answers=answers, **where))

        yield new
