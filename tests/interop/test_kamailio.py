"""A real Kamailio in the path, configured as docs/pbx/kamailio.md says."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sipbridge.outcome import CallReport, Ended
from sipbridge.sip.events import CallEnded
from sipbridge.sip.headers import Uri
from tests.interop.baresip import Baresip, wait_for_sound
from tests.interop.gateway import free_on_both
from tests.interop.kamailio import Kamailio
from tests.interop.nodes import Node
from tests.interop.recipes import recipe
from tests.interop.sound import loud_seconds, silence, write_wav
from tests.interop.telephone import Telephone
from tests.sip.certificates import Authority

pytestmark = pytest.mark.interop

EDGE, CALLER, CARRIER, OPERATOR = "127.0.0.6", "127.0.0.3", "127.0.0.30", "127.0.0.10"
NODES = ("127.0.0.21", "127.0.0.22")
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Places:
    """Ports that were free when the tests began; the nodes have the same ones, each on its address."""

    edge: int
    edge_tls: int
    node: int
    node_tls: int
    carrier: int


@pytest.fixture(scope="module")
def places() -> Places:
    return Places(*(free_on_both(address) for address in (EDGE, EDGE, NODES[0], NODES[0], CARRIER)))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    authority = Authority(folder)
    authority.issue(EDGE, stem="edge")
    authority.issue(*NODES, stem="node")
    authority.issue(CALLER, stem="caller")
    parts = (folder / "caller.key", folder / "caller.pem")
    (folder / "phone.pem").write_text("".join(part.read_text() for part in parts))
    return folder


@pytest.fixture(scope="module")
def nodes(keys: Path, places: Places) -> Iterator[list[Node]]:
    """Two of ours, alike, with one queue of reports."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_PASSWORD", PASSWORD)
        made: list[Node] = []
        reports: queue.SimpleQueue[CallReport] = queue.SimpleQueue()
        for address in NODES:
            replace = {
                "10.0.0.21:5060": f"{address}:{places.node}",
                "10.0.0.21:5061": f"{address}:{places.node_tls}",
                "10.0.0.21": address,
                "10.0.0.10:5060": f"{EDGE}:{places.edge}",
                "10.0.0.10/": f"{EDGE}/",
                "keys/": f"{keys}/",
            }
            config = yaml.safe_load(recipe("kamailio", "sipbridge.yaml: a node", replace))
            node = Node(config, desk="tel:+15550100", address=address, port=places.node, reports=reports)
            made.append(stack.enter_context(node))
        yield made


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, nodes: list[Node], keys: Path, places: Places) -> Iterator[Kamailio]:
    """The proxy. It finds the nodes there already, so it need not learn first that they have come."""
    folder = tmp_path_factory.mktemp("kamailio")
    own = {
        "10.0.0.10:5060": f"{EDGE}:{places.edge}",
        "10.0.0.10:5061": f"{EDGE}:{places.edge_tls}",
        "10.0.0.30:5060": f"{CARRIER}:{places.carrier}",
        "10.0.0.10": EDGE,
        "/etc/kamailio": str(folder),
        "CHANGE-ME": PASSWORD,
    }
    theirs = {
        f"10.0.0.2{number}:506{last}": f"{NODES[number - 1]}:{port}"
        for number in (1, 2)
        for last, port in ((0, places.node), (1, places.node_tls))
    }
    files = {
        "kamailio.cfg": recipe("kamailio", "kamailio.cfg", own),
        "dispatcher.list": recipe("kamailio", "dispatcher.list: set, uri, flags, priority, attributes", theirs),
        "tls.cfg": recipe(
            "kamailio", "tls.cfg: a private authority signs for everybody", {"/etc/kamailio/keys": str(keys)}
        ),
    }
    with Kamailio(folder, files) as kamailio:
        yield kamailio


@pytest.fixture(autouse=True)
def forget(nodes: list[Node]) -> None:
    """The calls of earlier tests are nobody's business any more."""
    nodes[0].forget()


@pytest.fixture
def operator() -> Iterator[Telephone]:
    with Telephone(OPERATOR) as telephone:
        yield telephone


def answered_by(operator: Telephone, places: Places, *, calls: int) -> set[str]:
    """The addresses of the nodes that answer that many calls at once."""
    answered = [operator.call(f"sip:700@{EDGE}:{places.edge}") for _ in range(calls)]
    for call in answered:
        operator.hang_up(call)
        operator.wait_for(CallEnded)
    return {Uri.parse(call.dialog.remote_target).host for call in answered if call.dialog}


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_a_call_through_the_proxy(
    edge: Kamailio, nodes: list[Node], places: Places, keys: Path, tmp_path: Path, transport: str
) -> None:
    """The agent hangs up, so its BYE goes back along the recorded route."""
    says = write_wav(tmp_path / "says.wav", silence(60))
    port = places.edge_tls if transport == "tls" else places.edge
    tls = (keys / "ca.pem", keys / "phone.pem") if transport == "tls" else None
    parameter = ";transport=tcp" if transport == "tcp" else ""  # for TLS baresip adds its own
    with Baresip(tmp_path / "caller", address=CALLER, says=says, tls=tls) as caller:
        caller.dial(f"sip:700@{EDGE}:{port}{parameter}")
        caller.wait_event("CALL_ESTABLISHED")
        wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
        caller.press("#")
        caller.wait_event("CALL_CLOSED", timeout=15)
    assert nodes[0].next_report().ended is Ended.AGENT_HUNG_UP


def test_a_challenge_to_a_call_of_ours_is_answered(
    edge: Kamailio, nodes: list[Node], places: Places, tmp_path: Path
) -> None:
    says = write_wav(tmp_path / "says.wav", silence(60))
    with Baresip(tmp_path / "carrier", address=CARRIER, port=places.carrier, says=says, answers=True) as carrier:
        call = nodes[0].dial("baresip")
        carrier.wait_event("CALL_ESTABLISHED")
        wait_for_sound(carrier, lambda heard: loud_seconds(heard) > 0.5)
        carrier.hang_up()
        assert call.report().ended is Ended.CALLEE_HUNG_UP


def test_without_the_password_no_call_goes_out(
    edge: Kamailio, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_PASSWORD", "wrong")
    report = nodes[0].dial("baresip").report()
    assert (report.ended, report.status) == (Ended.DECLINED, 407)


def test_two_calls_go_to_two_nodes(edge: Kamailio, nodes: list[Node], operator: Telephone, places: Places) -> None:
    assert answered_by(operator, places, calls=2) == set(NODES)


def test_calls_go_on_where_a_node_is_drained(
    edge: Kamailio, nodes: list[Node], operator: Telephone, places: Places
) -> None:
    for away, there in (NODES, reversed(NODES)):
        nodes[NODES.index(away)].drain(5)
        assert answered_by(operator, places, calls=3) == {there}
        nodes[NODES.index(away)].drain(None)


def test_calls_go_on_where_a_node_dies(edge: Kamailio, nodes: list[Node], operator: Telephone, places: Places) -> None:
    """The last test: the node does not come back."""
    nodes[0].stop()
    assert answered_by(operator, places, calls=3) == {NODES[1]}
