"""The circuit breaker, in virtual time; then in a session, over real sockets."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sipbridge.agent import Agent, AgentOptions, Resumed
from sipbridge.audio import PCMU
from sipbridge.errors import AgentStartError
from sipbridge.providers import new_agent_from_credential
from sipbridge.providers.breaker import FAILURES, INTERVAL, Attempt, Breaker, counts, server_of
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script

KEY = ("openai", "model.example.com")
OTHER = ("openai", "other.example.com")


def tripped(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        assert breaker.admits([KEY], now)
        breaker.failed(KEY, "refused", now)
    return breaker


def test_failures_in_a_row_open_it_for_that_server_only() -> None:
    breaker = tripped()
    assert breaker.open_keys() == [KEY]
    assert not breaker.admits([KEY], 100.5)
    assert breaker.admits([OTHER], 100.5)
    assert breaker.admits([("xai", KEY[1])], 100.5)
    assert not breaker.admits([OTHER, KEY], 100.5)


def test_while_it_is_open_one_attempt_a_second_goes_through() -> None:
    breaker = tripped()
    through = [at for at in range(10_000, 10_500) if breaker.admits([KEY], at / 100)]
    assert through == [10_100, 10_200, 10_300, 10_400]


def test_attempts_that_go_on_failing_keep_it_open() -> None:
    breaker = tripped()
    for second in range(1, 30):
        assert breaker.admits([KEY], 100.0 + second * INTERVAL)
        breaker.failed(KEY, "timeout", 100.5 + second * INTERVAL)
        assert not breaker.admits([KEY], 100.6 + second * INTERVAL)


def test_the_first_success_closes_it() -> None:
    breaker = tripped()
    assert breaker.admits([KEY], 101.0)
    breaker.succeeded(KEY)
    assert breaker.open_keys() == []
    assert all(breaker.admits([KEY], 101.0 + at / 100) for at in range(10))


def test_a_success_between_failures_begins_the_count_again() -> None:
    breaker = Breaker()
    for number in range(50):
        breaker.failed(KEY, "503", number)
        if number % FAILURES == FAILURES - 2:
            breaker.succeeded(KEY)
    assert breaker.open_keys() == []


@pytest.mark.parametrize(
    ("code", "of_server"),
    [
        *((code, True) for code in ("dns", "refused", "unreachable", "tls", "timeout", "closed", "500", "503")),
        *(
            (code, False)
            for code in ("400", "401", "403", "404", "429", "invalid_value", "breaker_open", "5x", "", "url")
        ),
    ],
)
def test_what_says_something_about_the_server(code: str, of_server: bool) -> None:
    assert counts(code) is of_server
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(KEY, code, 1.0)
    assert bool(breaker.open_keys()) is of_server


def test_servers_without_end_are_not_kept() -> None:
    breaker = Breaker()
    for number in range(5000):
        breaker.failed(("openai", f"host-{number}"), "dns", 1.0)
    assert len(breaker.known_keys()) == 1000


def test_an_attempt_at_several_servers_blames_the_one_that_failed() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        attempt = Attempt(breaker, "cascade", lambda: 1.0)
        attempt.enter("stt", "llm")
        attempt.reached("stt")
        attempt.failed("refused", "llm")
    assert breaker.open_keys() == [("cascade", "llm")]

    breaker = Breaker()
    for _ in range(FAILURES):
        attempt = Attempt(breaker, "cascade", lambda: 1.0)
        attempt.enter("stt", "llm")
        attempt.reached("llm")
        attempt.failed("timeout")
    assert breaker.open_keys() == [("cascade", "stt")], "the one that was waited for"
    with pytest.raises(AgentStartError) as raised:
        Attempt(breaker, "cascade", lambda: 1.5).enter("stt", "llm")
    assert (raised.value.code, raised.value.again) == ("breaker_open", True)
    again = Attempt(breaker, "cascade", lambda: 2.0)
    again.enter("stt", "llm")
    again.enter("stt")  # it is there already: one attempt
    again.succeeded()
    assert breaker.open_keys() == []
    assert breaker.connects == {("cascade", "timeout"): FAILURES, ("cascade", "ok"): 1}


def test_sessions_share_it_and_recover() -> None:
    async def scenario() -> None:
        now = 1000.0
        breaker = Breaker()
        options = AgentOptions(input_format=PCMU, output_format=PCMU)

        async def attempt(server: ModelServer) -> str:
            credential = {"provider": "openai", "url": server.url, "api_key": "k"}
            agent = new_agent_from_credential(credential, options, clock=lambda: now, breaker=breaker)
            try:
                await agent.start()
            except AgentStartError as error:
                return error.code
            finally:
                await agent.close()
            return "ok"

        async with ModelServer(Script(fault=Fault("status", "503"))) as server:
            assert [await attempt(server) for _ in range(8)] == ["503"] * 5 + ["breaker_open"] * 3
            assert server.refused == 5
            now += 1.0
            assert [await attempt(server) for _ in range(3)] == ["503"] + ["breaker_open"] * 2
            server.script = Script()
            now += 1.0
            assert [await attempt(server) for _ in range(3)] == ["ok"] * 3
            server.script = Script(fault=Fault("status", "401"))
            assert {await attempt(server) for _ in range(8)} == {"401"}
            server.script = Script(fault=Fault("refuse_setup"))
            assert {await attempt(server) for _ in range(8)} == {"invalid_value"}
        assert breaker.connects == {
            ("openai", "503"): 6,
            ("openai", "breaker_open"): 5,
            ("openai", "ok"): 3,
            ("openai", "401"): 8,
            ("openai", "refused_setup"): 8,
        }

    asyncio.run(scenario())


def test_the_log_says_when_it_opens_and_closes() -> None:
    breaker = Breaker()
    with capture_logs() as logs:
        for _ in range(FAILURES + 2):
            attempt = Attempt(breaker, "openai", lambda: 100.0)
            attempt._pending.add("model.example.com")  # as after `enter`, which only lets one a second through
            attempt.failed("503")
        back = Attempt(breaker, "openai", lambda: 102.0)
        back.enter("model.example.com")
        back.succeeded()
    assert [(entry["log_level"], entry["provider"], entry["host"]) for entry in logs] == [
        ("warning", "openai", "model.example.com"),
        ("info", "openai", "model.example.com"),
    ]


def test_live_calls_survive_an_outage_of_a_server_that_refuses_them_all() -> None:
    """While the breaker is open one of them a second is let through; the others have not tried meanwhile."""

    async def scenario() -> None:
        opened = asyncio.Event()

        class Watched(Breaker):
            def failed(self, key: tuple[str, str], code: str, now: float) -> bool:
                if opens := super().failed(key, code, now):
                    opened.set()
                return opens

        breaker = Watched()
        options = AgentOptions(input_format=PCMU, output_format=PCMU)

        async def resumed(agent: Agent) -> bool:
            async for event in agent:
                if isinstance(event, Resumed):
                    return True
            return False

        async with ModelServer() as server:
            credential = {"provider": "openai", "url": server.url, "api_key": "k"}
            agents = [new_agent_from_credential(credential, options, breaker=breaker) for _ in range(20)]
            await asyncio.gather(*(agent.start() for agent in agents))
            waiting = [asyncio.create_task(resumed(agent)) for agent in agents]
            server.script = Script(fault=Fault("status", "503"))
            server.drop()
            await opened.wait()
            server.script = Script()
            assert await asyncio.gather(*waiting) == [True] * 20
            assert server.refused <= 20
            assert not breaker.open_keys()
            await asyncio.gather(*(agent.close() for agent in agents))

    asyncio.run(asyncio.wait_for(scenario(), 10))


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("wss://model.example.com/v1/realtime", "model.example.com"),
        ("wss://key@Model.example.com:8443/v1", "model.example.com:8443"),
        ("ws://[::1]:9001/v1", "[::1]:9001"),
        ("", ""),
    ],
)
def test_two_servers_of_one_machine_are_two(url: str, server: str) -> None:
    assert server_of(url) == server


def test_a_server_that_is_gone_takes_nobody_with_it_on_the_same_machine() -> None:
    async def scenario() -> None:
        breaker = Breaker()
        options = AgentOptions(input_format=PCMU, output_format=PCMU)
        async with ModelServer(Script(fault=Fault("status", "503"))) as gone, ModelServer() as there:
            for _ in range(FAILURES + 1):
                credential = {"provider": "openai", "url": gone.url, "api_key": "k"}
                agent = new_agent_from_credential(credential, options, breaker=breaker)
                with pytest.raises(AgentStartError):
                    await agent.start()
            agent = new_agent_from_credential(credential | {"url": there.url}, options, breaker=breaker)
            await agent.start()
            await agent.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))
