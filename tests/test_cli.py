"""The command line: what it prints, and its exit status: 0, 1 (it failed) or 2 (wrong usage or configuration)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sipbridge.configfile import parse
from sipbridge.tenant_config import TenantConfig

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}


def sipbridge(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sipbridge", *arguments],
        cwd=cwd,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=30,
    )


def gateway(tmp_path: Path, tenant: str = "agent: {provider: offline}\n", **files: str) -> Path:
    """A configuration on any free port."""
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "a.yaml").write_text(tenant)
    path = tmp_path / "sipbridge.yaml"
    path.write_text(files.get("config", "sip: {listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0']}\n"))
    return path


def test_version_and_usage() -> None:
    assert sipbridge("--version").stdout.startswith("sipbridge ")
    assert sipbridge("no-such-command").returncode == 2
    assert sipbridge("--log", "loud", "check").returncode == 2
    assert sipbridge("serve", "--drain-seconds", "soon").returncode == 2


def test_what_is_wrong_with_the_configuration_is_told_and_is_status_2(tmp_path: Path) -> None:
    path = gateway(tmp_path, "agent:\n  provider: offline\n  voise: x\n")
    for command in ("serve", "check"):
        done = sipbridge(command, "-c", str(path))
        assert done.returncode == 2
        assert (
            done.stderr.strip()
            == f"sipbridge: {tmp_path}/tenants/a.yaml:3: agent.voise: unknown key; did you mean 'voice'?"
        )
        assert done.stdout == ""
    assert "cannot be read" in sipbridge("serve", "-c", str(tmp_path / "none.yaml")).stderr


def test_check_names_missing_secrets_and_what_has_no_effect(tmp_path: Path) -> None:
    path = gateway(tmp_path, "agent: {provider: openai, api_key: '${OPENAI_API_KEY}', temperature: 1}\n")
    path.write_text(path.read_text() + "\nredis: {url: 'redis://127.0.0.1'}\n")
    done = sipbridge("check", "-c", str(path))
    assert done.returncode == 2
    assert "tenant a: agent.api_key: the environment variable OPENAI_API_KEY is not set" in done.stderr
    assert "warning: redis has no effect in this version" in done.stderr
    assert "tenant a: warning: agent.temperature is not sent: openai takes none" in done.stderr


def test_the_shipped_configuration_is_right_but_for_the_key(tmp_path: Path) -> None:
    done = sipbridge("check")
    assert done.stderr.strip() == "tenant acme: agent.api_key: the environment variable OPENAI_API_KEY is not set"
    assert "2 tenants: acme, demo" in done.stdout


def test_check_looks_unless_it_is_told_not_to(tmp_path: Path) -> None:
    config = (
        "sip: {listen: ['udp://127.0.0.1:0']}\nmedia: {ports: 29000-29999}\nlimits: {max_calls: 10}\n"
        "trunks: [{name: pbx, sources: [127.0.0.1], outbound: {proxy: 'sip:127.0.0.1:1', transport: tcp}}]\n"
    )
    path = gateway(tmp_path, config=config)
    done = sipbridge("check", "-c", str(path))
    assert done.returncode == 1
    assert "ok       listener udp://127.0.0.1:0: can be had" in done.stdout
    assert "failed   trunk pbx: sip:127.0.0.1:1;transport=tcp is not reachable: Connection refused; see" in done.stdout
    done = sipbridge("check", "--offline", "-c", str(path))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"{path}: 1 tenants: a"]


def test_check_opens_and_closes_a_session_of_each_tenants_model(tmp_path: Path) -> None:
    config = "sip: {listen: ['udp://127.0.0.1:0']}\nmedia: {ports: 29000-29999}\nlimits: {max_calls: 10}\n"
    path = gateway(tmp_path, config=config)
    model = "agent: {provider: openai, url: 'ws://127.0.0.1:1/v1/realtime'}\nmatch: {to: x}\n"
    (tmp_path / "tenants" / "b.yaml").write_text(model)
    done = sipbridge("check", "-c", str(path))
    assert done.returncode == 1
    assert re.search(r"^ok       tenant a: offline: ready to talk within \d+ ms$", done.stdout, re.MULTILINE)
    assert re.search(r"^failed   tenant b: openai: .*nothing listens there: see agent.url$", done.stdout, re.MULTILINE)
    assert sipbridge("check", "--offline", "-c", str(path)).returncode == 0


def test_ladders_are_listed_and_printed(tmp_path: Path) -> None:
    path = gateway(tmp_path, config="sip: {ladders: kept}\n")
    (tmp_path / "kept").mkdir()
    text = "Call-ID: abc\nEnded: then\n\n   drawing\n\nmessages\n\nmore\n"
    (tmp_path / "kept" / "x.ladder").write_text(text)
    assert sipbridge("ladder", "-c", str(path)).stdout == "then  abc\n"
    assert sipbridge("ladder", "abc", "-c", str(path)).stdout == "Call-ID: abc\nEnded: then\n\n   drawing\n"
    assert "more" in sipbridge("ladder", "abc", "--messages", "-c", str(path)).stdout
    done = sipbridge("ladder", "none", "-c", str(path))
    assert (done.returncode, "has no ladder of none" in done.stderr) == (1, True)
    path.write_text("")
    assert sipbridge("ladder", "-c", str(path)).returncode == 2


def test_route_says_who_and_why_not_the_others() -> None:
    done = sipbridge("route", "--to", "+15550101")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "acme: chosen: the most specific match"
    assert "demo: to: '+15550101' is none of agent" in done.stdout
    assert sipbridge("route", "--to", "nobody").returncode == 1
    assert sipbridge("route", "--to", "x", "--header", "no colon").returncode == 2


@pytest.mark.parametrize("arguments", [[], ["--tenant"]])
def test_the_schema_is_json_schema(arguments: list[str]) -> None:
    schema = json.loads(sipbridge("config", "schema", *arguments).stdout)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert ("agent" if arguments else "sip") in schema["properties"]


def test_a_secret_of_a_tool_that_is_not_there_is_said(tmp_path: Path) -> None:
    tool = "{name: x, description: d, url: 'https://api.example.com/', headers: {Authorization: '${UNSET_FOR_SURE}'}}"
    path = gateway(tmp_path, f"agent: {{provider: offline}}\ntools: {{http: [{tool}]}}\n")
    done = sipbridge("check", "--offline", "-c", str(path))
    assert done.returncode == 2
    assert "tenant a: tools.http[0].headers.Authorization: the environment variable UNSET_FOR_SURE is" in done.stderr


def test_what_is_in_force_is_shown_without_a_secret(tmp_path: Path) -> None:
    node = """
trunks: [{name: pbx, auth: {username: pbx, password: sesame}}]
http: {token: "${SESAME_TOKEN}"}
webhooks: [{url: "https://me:sesame@example.com/hook", secret: sesame}]
"""
    tenant = "agent: {provider: offline, api_key: sesame, token: 'file:a.key'}\ntools: {hang_up: {}}\n"
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "a.yaml").write_text(tenant)
    (tmp_path / "sipbridge.yaml").write_text(node)
    done = sipbridge("config", "show", "-c", "sipbridge.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sesame" not in done.stdout
    assert "Warning" not in done.stderr
    assert "password: '***'" in done.stdout
    assert "token: ${SESAME_TOKEN}" in done.stdout
    assert "ports: 16384-32767" in done.stdout

    done = sipbridge("config", "show", "-c", "sipbridge.yaml", "--tenant", "a", cwd=tmp_path)
    assert "token: file:a.key" in done.stdout
    assert "sesame" not in done.stdout
    # What is shown can be read again and means the same.
    assert parse(done.stdout, TenantConfig, "shown").tools == parse(tenant, TenantConfig, "a.yaml").tools
    assert sipbridge("config", "show", "-c", "sipbridge.yaml", "--tenant", "b", cwd=tmp_path).returncode == 2


def test_an_address_in_use_is_status_1(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken_port = taken.getsockname()[1]
        config = f"sip: {{listen: ['udp://127.0.0.1:{taken_port}']}}\n"
        done = sipbridge("serve", "-c", str(gateway(tmp_path, config=config)))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert f"udp://127.0.0.1:{taken_port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["serve", "-c"], ["simulate", "openai", "--port", "0"]])
def test_sigterm_ends_it_in_good_order(command: list[str], tmp_path: Path) -> None:
    if command[0] == "serve":
        command = [*command, str(gateway(tmp_path))]
    process = subprocess.Popen(
        [sys.executable, "-m", "sipbridge", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert re.search("listening|simulated", process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0, output
        assert "Traceback" not in output
    finally:
        process.kill()
        process.wait()


def test_a_call_nobody_answers_is_status_1() -> None:
    done = sipbridge("call", "sip:agent@127.0.0.1:1;transport=tcp", "--codec", "PCMU", "--expect", "answered")
    assert done.returncode == 1
    assert "expected   answered: NO" in done.stdout
    assert sipbridge("call", "sip:a@127.0.0.1:1", "--expect", "wonders").returncode == 2


def test_the_providers_are_listed() -> None:
    lines = sipbridge("providers").stdout.splitlines()
    assert "openai             pcma pcmu or PCM 24/24 kHz; no temperature; voices marin, cedar, alloy, ..." in lines
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    assert {"cascade", "gemini", "nova_sonic", "offline", "openai"} <= set(names)


def test_simulate_knows_what_it_can_be() -> None:
    refused = sipbridge("simulate", "parrot").stderr
    assert "there is:" in refused
    assert "openai" in refused
    assert "openai" in sipbridge("simulate").stdout.splitlines()
    assert sipbridge("simulate", "openai", "--fault", "boredom").returncode == 2
    assert sipbridge("simulate", "openai", "--tool", "x").returncode == 2
