"""The configuration: what is accepted, and that what is not is named by file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from sipbridge.config import PLANNED, Config, load_config, not_in_use, secrets_of
from sipbridge.configfile import Section, dotted, parse
from sipbridge.errors import ConfigError
from sipbridge.logins import Secret
from sipbridge.tenant_checks import warnings
from sipbridge.tenant_config import TenantConfig, load_tenant
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenant_file.limits import PhrasesConfig
from sipbridge.tenant_source.opening import versions_of
from tests.sip.certificates import Authority, with_clients


def problems(text: str, model: type[Section]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, model, "f.yaml")
    return str(caught.value)


def test_what_the_gateway_writes_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of a container may only be read."""
    path, state = tmp_path / "sipbridge.yaml", tmp_path / "state"
    path.write_text("recordings: {directory: /srv/calls}\nsip: {ladders: ladders}\n")
    beside = load_config(path)
    assert beside.history.outbox == tmp_path / "var" / "outbox"
    assert beside.sip.ladders == tmp_path / "ladders"
    monkeypatch.setenv("SIPBRIDGE_STATE", str(state))
    config = load_config(path)
    assert config.history.sqlite_path == state / "var" / "history.db"
    assert config.history.outbox == state / "var" / "outbox"
    assert (config.tenants.cache, config.tenants.usage) == (state / "var" / "tenants.db", state / "var" / "usage.db")
    assert config.sip.ladders == state / "ladders"
    assert config.recordings.directory == Path("/srv/calls"), "an absolute path is what it is"
    versions = versions_of(config, path.parent)
    assert versions is not None
    versions.keep([])
    assert (state / "var" / "tenants" / "versions.db").exists()


def test_an_empty_file_is_the_embedded_default() -> None:
    config = parse("", Config, "f.yaml")
    assert config.sip.listen == ("udp://127.0.0.1:5060", "tcp://127.0.0.1:5060")
    assert config.media.ports == (16384, 32767)
    assert config.trunks == ()
    assert list(not_in_use(config)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sip:\n  listn: []\n", "f.yaml:2: sip.listn: unknown key; did you mean 'listen'?"),
        ("mdia: {}\n", "f.yaml:1: mdia: unknown key; did you mean 'media'?"),
        ("webhooks:\n- {url: 'http://127.0.0.1/', events: []}\n", "f.yaml:2: webhooks[0].events: "),
        ("sip:\n  zzz: 1\n", "f.yaml:2: sip.zzz: unknown key; known are accounts, digest_algorithms"),
        ("media:\n  ports: 4000\n", "f.yaml:2: media.ports: a range of ports is expected"),
        ("media:\n  ports: 5000-4000\n", "f.yaml:2: media.ports: ports lie between"),
        ("limits:\n  max_calls: 0\n", "f.yaml:2: limits.max_calls: Input should be greater than or equal to 1"),
        ("sip:\n  listen: ['udp://1.2.3.4']\n", "f.yaml:2: sip.listen: 'udp://1.2.3.4': expected udp://ADDRESS:PORT"),
        (
            "sip:\n  listen: ['tls://127.0.0.1:5061']\n",
            "f.yaml:2: sip.listen: 'tls://127.0.0.1:5061': sip.tls.certificate and sip.tls.key are needed for it",
        ),
        ("sip:\n  listen: ['sctp://127.0.0.1:5061']\n", "f.yaml:2: sip.listen: 'sctp://127.0.0.1:5061': expected udp"),
        (
            "sip:\n  listen: ['tcp://127.0.0.1:5060', 'ws://127.0.0.1:5060']\n",
            "f.yaml:2: sip.listen: 'ws://127.0.0.1:5060': that port is taken by another listener in the list",
        ),
        ("sip:\n  nameservers: [dns]\n", "f.yaml:2: sip.nameservers: 'dns' does not appear to be an IPv4"),
        ("sip:\n  tls:\n    key: k.pem\n", "f.yaml:3: sip.tls.key: a key without a certificate"),
        ("sip:\n  tls:\n    ca: none.pem\n", "f.yaml:3: sip.tls.ca: none.pem cannot be read: No such file"),
        (
            "sip:\n  tls:\n    verify_peer: true\n    client_certificates: required\n",
            "f.yaml:4: sip.tls.client_certificates: 'ca' is needed",
        ),
        (
            "sip:\n  listen: ['udp://localhost:5060']\n",
            "f.yaml:2: sip.listen: 'localhost' does not appear to be an IPv4",
        ),
        ("media:\n  address: localhost\n", "f.yaml:2: media.address: 'localhost' does not appear to be an IPv4"),
        ("media:\n  address: 0.0.0.0\n", "f.yaml:2: media.address: one address of this host is expected"),
        ("sip: {session_timers: {min_seconds: 60}}\n", "greater than or equal to 90"),
        ("sip: {session_timers: {expires_seconds: 80}}\n", "80 is below min_seconds 90; 0 is off"),
        ("trunks:\n  - name: a\n    sources: [nowhere]\n", "f.yaml:3: trunks[0].sources: 'nowhere' does not appear"),
        ("trunks:\n  - name: a\n    sources: ['::1/128']\n    sorces: 1\n", "f.yaml:4: trunks[0].sorces: unknown key"),
        ("trunks:\n  - {name: a, sources: ['10.0.0.1']}\n  - {name: a, sources: ['10.0.0.2']}\n", "the same name"),
        ("media: {srtp: always}\n", "f.yaml:1: media.srtp: "),
        ("trunks:\n  - {name: a, sources: ['10.0.0.1'], srtp: never}\n", "f.yaml:2: trunks[0].srtp: "),
        ("tenants: {url: '127.0.0.1/x'}\n", "f.yaml:1: tenants.url: https://HOST"),
        ("tenants:\n  url: 'https://a:b@example.com/'\n", "f.yaml:2: tenants.url: a URL is no place for"),
        ("tenants:\n  timeout_seconds: 0\n", "f.yaml:2: tenants.timeout_seconds: "),
        ("node: {id: a}\nnode: {id: b}\n", "f.yaml:2: node: key given twice"),
        ("sip: [\n", "f.yaml:2: not valid YAML"),
        ("- a\n", "f.yaml:1: a mapping of keys is expected, not list"),
        ("a: !!python/object:os.system {}\n", "f.yaml:1: not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    assert message in problems(text, Config)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = problems(
        "sip:\n  listn: []\n  unknown_sources: loud\nmdia: {}\nlimits:\n  max_calls: 0\n  max_cals: 5\n", Config
    )
    assert sorted(line.split(": ")[0] for line in text.splitlines()) == [
        "f.yaml:2",
        "f.yaml:3",
        "f.yaml:4",
        "f.yaml:6",
        "f.yaml:7",
    ]
    assert "did you mean 'max_calls'?" in text


LOGIN = "{username: pbx, password: x}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trunks:\n  - name: pbx\n", "f.yaml:2: trunks[0]: 'sources' or 'auth' is needed"),
        ("trunks:\n  - name: pbx\n    auth: {username: pbx}\n", "f.yaml:3: trunks[0].auth.password: Field required"),
        ("trunks:\n  - name: pbx\n    auth: {user: pbx, password: x}\n", "unknown key; did you mean 'username'?"),
        ("sip:\n  accounts:\n    - {username: 'a b', password: x}\n", "f.yaml:3: sip.accounts[0].username: "),
        (
            f"sip:\n  accounts: [{LOGIN}]\ntrunks:\n  - name: a\n    auth: {LOGIN}\n",
            "f.yaml:5: trunks[0].auth.username: 'pbx' is the user of another trunk or account, too",
        ),
        (
            "trunks:\n  - name: a\n    sources: ['::1']\n    register: {server: pbx, username: a, password: b}\n",
            "f.yaml:4: trunks[0].register.server: sip:HOST[:PORT] is expected, not 'pbx'",
        ),
        (
            "trunks:\n  - name: a\n    sources: ['::1']\n    register: {server: 'sip:a@b', username: a, password: b}\n",
            "sip:HOST[:PORT] is expected",
        ),
        (
            "trunks:\n  - name: a\n    sources: ['::1']\n"
            "    register: {server: 'sip:b', username: a, password: b, expires: 5}\n",
            "f.yaml:4: trunks[0].register.expires: ",
        ),
    ],
)
def test_users_and_registrations(text: str, message: str) -> None:
    assert message in problems(text, Config)


def test_a_trunk_may_be_known_by_its_password_alone() -> None:
    config = parse(f"trunks:\n  - name: a\n    auth: {LOGIN}\n", Config, "f.yaml")
    assert config.admits_strangers
    assert [place for place, secret in secrets_of(config) if secret.in_plain_sight] == ["trunks[0].auth.password"]
    assert list(warnings(config)) == [
        "trunks[0].auth.password is written out in the file; ${NAME} or file:PATH would keep it out"
    ]


def test_a_tenant_without_an_agent_is_refused() -> None:
    words = "f.yaml:1: agent: Field required, or 'agents' with at least one"
    assert problems("match: {to: a}\n", TenantConfig) == words
    assert problems("match: {to: a}\nagents: {}\n", TenantConfig) == words


SEVERAL = "agents:\n  triage: {provider: offline}\n  billing:\n    provider: offline\n"


def test_several_agents_have_names_and_the_first_begins() -> None:
    tenant = parse(SEVERAL + "    tools: [hang_up]\n", TenantConfig, "f.yaml")
    assert list(tenant.agents) == ["triage", "billing"]
    assert tenant.agent is tenant.agents["triage"]
    assert [dotted(place) for place, _ in tenant.places_of_agents()] == ["agents.triage", "agents.billing"]
    assert list(not_in_use(tenant)) == []


def test_agent_is_short_for_one_that_is_called_main() -> None:
    tenant = parse("agent: {provider: offline}", TenantConfig, "f.yaml")
    assert tenant.agents == {"main": tenant.agent}
    assert [dotted(place) for place, _ in tenant.places_of_agents()] == ["agent"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SEVERAL + "agent: {provider: offline}\n", "f.yaml:5: agent: is short for agents: {main: ...}; there are"),
        (SEVERAL + "    voic: a\n", "f.yaml:5: agents.billing.voic: unknown key; did you mean 'voice'?"),
        (SEVERAL + "    url: x\n", "f.yaml:5: agents.billing.url: a full URL without query"),
        (SEVERAL + "  sales: {}\n", "f.yaml:5: agents.sales.provider: Field required"),
        (SEVERAL + "  'not a name': {provider: offline}\n", "f.yaml:5: agents.not a name: an agent's name is"),
    ],
)
def test_mistakes_in_one_of_several_agents_are_named(text: str, message: str) -> None:
    assert message in problems(text, TenantConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "agent:\n  provider: openai\n  temprature: 1\n",
            "f.yaml:3: agent.temprature: unknown key; did you mean 'temp",
        ),
        ("agent:\n  provider: openai\n  url: ws://x/y?model=z\n", "f.yaml:3: agent.url: a full URL without query"),
        ("agent:\n  provider: openai\n  url: x/y\n", "f.yaml:3: agent.url: a full URL without query is expected: wss"),
        (
            "agent: {provider: offline}\ntools:\n  transfer_call:\n    targets: {desk: '900'}\n",
            "f.yaml:4: tools.transfer_call.targets.desk: sip:USER@HOST or tel:NUMBER is expected, not '900'",
        ),
        (
            "agent: {provider: offline}\ntools:\n  transfer_call: {targets: {}}\n",
            "f.yaml:3: tools.transfer_call.targets",
        ),
        (
            "agent: {provider: offline}\nlimits:\n  call_seconds: 30\n  warning_seconds: 30\n",
            "f.yaml:4: limits.warning_seconds: there is no such moment in a call of 30 s",
        ),
        (
            "agent: {provider: offline}\nsilence:\n  prompts: ['?']\n",
            "f.yaml:3: silence.prompts: '?' has no word in it",
        ),
        ("agent: {provider: offline}\nsilence:\n  prompt: Hm\n", "f.yaml:3: silence.prompt: unknown key; did you mean"),
        (
            "agent: {provider: offline}\nphrases:\n  hang_up: [bye, '...']\n",
            "f.yaml:3: phrases.hang_up: '...' has no word in it",
        ),
        (
            "agent: {provider: offline}\nphrases:\n  transfer: {desk: [one moment]}\n",
            "f.yaml:3: phrases.transfer.desk: no target of tools.transfer_call; known are: none",
        ),
        (
            "agent: {provider: offline}\nanswer: when_redy\n",
            "f.yaml:2: answer: Input should be 'when_ready', 'ring_then_answer' or 'immediately'; did you mean"
            " 'when_ready'?",
        ),
        (
            "agent: {provider: offline}\nanswr: x\nmachine: hangup\n",
            "machine: Input should be 'talk' or 'hang_up'; did you mean 'hang_up'?",
        ),
        ("agent: {provider: offline}\nrings: yes\n", "f.yaml:2: rings: a number is expected"),
        ("agent: [offline]\n", "f.yaml:1: agent: a mapping (key: value) is expected"),
        ("agent: {provider: offline}\nfallback: {}\n", "f.yaml:2: fallback: a list is expected"),
        ("agent: {provider: offline}\nmatch:\n  to: 100\n", "f.yaml:3: match.to: text, or a list of texts, is"),
        ("agent: {provider: offline, greeting: 5}\n", "f.yaml:1: agent.greeting: text is expected"),
        ("agent: {provider: offline, api_key: ''}\n", "f.yaml:1: agent.api_key: a secret is ${NAME} or file:PATH"),
        ("agents:\n  1: {provider: offline}\n", "f.yaml:2: agents.1: text is expected"),
        (
            "agent: {provider: offline}\ntools: {hold: {}, send_dtmf: {max: 1}}\n",
            "max: unknown key; nothing can be set",
        ),
        ("agent: {provider: offline}\ndeadlines:\n  tool_seconds: .inf\n", "f.yaml:3: deadlines.tool_seconds: Input"),
        ("agent: {provider: offline}\nlimits:\n  call_seconds: .inf\n", "f.yaml:3: limits.call_seconds: Input should"),
        (
            "agent: {provider: offline}\nwaiting_sound: tome\n",
            "f.yaml:2: waiting_sound: tome: No such file or directory; 'tone' or a WAV file is expected",
        ),
        (
            "agent: {provider: offline}\ntools: {transfer_call: {targets: {desk: 'sip:a@b'}}}\n"
            "phrases:\n  hang_up: [Bye!]\n  transfer: {desk: [bye]}\n",
            "f.yaml:5: phrases.transfer.desk: 'bye' stands for hang_up, too",
        ),
        *(
            (
                f"agent: {{provider: offline}}\ntools:\n  transfer_call:\n    targets: {{desk: '{target}'}}\n",
                "f.yaml:4: tools.transfer_call.targets.desk: sip:USER@HOST or tel:NUMBER is expected",
            )
            for target in ("sip:a@b:99999", "sip:@@@", "sip:a@[::1", "tel:()", "100", "sip:a b@c")
        ),
        (
            "agent: {provider: offline}\ntools:\n  transfer_call:\n    targets: {' ': 'sip:a@b'}\n",
            "f.yaml:4: tools.transfer_call.targets. : a target's name is text that a model can say",
        ),
        ("agent: {provider: offline}\nbarge_in:\n  fade_ms: 11\n", "f.yaml:3: barge_in.fade_ms: Input should be less"),
    ],
)
def test_a_tenants_mistakes_are_named(text: str, message: str) -> None:
    assert message in problems(text, TenantConfig)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("tools: {hang_up: }", "tools.hang_up has no effect: it is empty; {} lets the agent use it"),
        ("tools: {switch_agent: {}}", "tools.switch_agent has no effect: there is no other agent to switch to"),
        ("silence: {prompts: [Hello]}", "silence has no effect: seconds is missing"),
        ("silence: {seconds: 5, prompts: [hello.wav]}", "silence.prompts[0] is for the agent to say; it is no sound"),
        ("silence: {seconds: 5, prompts: [], hang_up: false}", "silence has no effect: there is nothing to say"),
        ("barge_in: {backchannels: [yo]}", "barge_in.backchannels has no effect: recover_false_alarms is false"),
        ("barge_in: {enabled: false, recover_false_alarms: true}", "barge_in.recover_false_alarms has no effect"),
        ("phrases: {hang_up: ['good.*bye']}", "phrases.hang_up: 'good.*bye' is looked for word by word"),
        ("phrases: {hang_up: ['(bye|ciao)']}", "phrases.hang_up: '(bye|ciao)' is looked for word by word"),
        ("limits: {warning: '{{ call.from }}'}", "limits.warning is said as it stands; it is no template"),
        (
            "tools: {http: [{name: x, description: d, url: 'http://127.0.0.1/'}]}",
            "tools.http[0].url is no public address: it is never asked without allow_private: true",
        ),
    ],
)
def test_what_will_not_happen_as_it_is_written_is_said(text: str, warning: str) -> None:
    config = parse(f"agent: {{provider: offline}}\n{text}\n", TenantConfig, "f.yaml")
    assert [words for words in warnings(config) if words.startswith(warning)] != []


@pytest.mark.parametrize("phrase", ["Goodbye!", "I'll put you through (desk)", "Bye, bye.", "Auf Wiederhören", "C++"])
def test_punctuation_is_no_pattern(phrase: str) -> None:
    config = parse("agent: {provider: offline}\n", TenantConfig, "f.yaml")
    config = config.model_copy(update={"phrases": PhrasesConfig(hang_up=(phrase,))})
    assert [words for words in warnings(config) if "no pattern" in words] == []


class _Inner(Section):
    later: Annotated[int, PLANNED] = 1
    now: int = 1


class _Outer(Section):
    inner: _Inner = _Inner()
    later: Annotated[int | None, PLANNED] = None


def test_keys_without_effect_are_known_only_where_they_were_changed() -> None:
    assert list(not_in_use(parse("inner: {later: 2, now: 2}", _Outer, "f.yaml"))) == ["inner.later"]
    assert list(not_in_use(parse("inner: {later: 1}", _Outer, "f.yaml"))) == []


class TestSecret:
    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SIPBRIDGE_TEST_KEY", "s3cret")
        assert Secret("${SIPBRIDGE_TEST_KEY}").reveal() == "s3cret"
        assert Secret("Bearer ${SIPBRIDGE_TEST_KEY}").reveal() == "Bearer s3cret"

    def test_an_unset_one_is_an_error_where_it_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SIPBRIDGE_TEST_KEY", raising=False)
        tenant = parse("agent: {provider: openai, api_key: '${SIPBRIDGE_TEST_KEY}'}", TenantConfig, "f.yaml")
        assert tenant.agent.api_key is not None
        with pytest.raises(ConfigError, match="SIPBRIDGE_TEST_KEY is not set"):
            tenant.agent.api_key.reveal()

    def test_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("s3cret\n")
        assert Secret(f"file:{tmp_path}/key").reveal() == "s3cret"
        with pytest.raises(ConfigError, match="cannot be read"):
            Secret(f"file:{tmp_path}/none").reveal()

    def test_is_shown_by_nobody(self) -> None:
        agent = AgentConfig.model_validate({"provider": "openai", "api_key": "sk-plain"})
        assert "sk-plain" not in f"{agent!r}{agent}{agent.api_key!r}"


def test_files_are_read_and_unreadable_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("agent: {provider: offline}\n")
    assert load_tenant(tmp_path / "a.yaml").agent.provider == "offline"
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read"):
        load_config(tmp_path / "missing.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bytes\.yaml: cannot be read"):
        load_config(tmp_path / "bytes.yaml")


class TestTls:
    """Paths start where the file is, and what is in them has to fit."""

    TEXT = "sip:\n  listen: ['tls://127.0.0.1:5061', 'wss://127.0.0.1:5062', 'ws://127.0.0.1:5063']\n  tls:\n"

    def test_what_fits(self, tmp_path: Path) -> None:
        issued = Authority(tmp_path).issue("gw.example.com")
        (tmp_path / "f.yaml").write_text(
            self.TEXT + "    certificate: node.pem\n    key: node.key\n"
            "    ca: ca.pem\n    client_certificates: optional\n"
        )
        config = load_config(tmp_path / "f.yaml")
        assert config.sip.tls.settings == with_clients(issued, "optional")
        assert list(not_in_use(config)) == []

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ("    certificate: node.pem\n    key: other.key\n", "f.yaml:5: sip.tls.key: .*other.key is not the key of"),
            ("    certificate: ca.key\n", "f.yaml:4: sip.tls.certificate: .*ca.key cannot be read: No such file"),
            ("    certificate: node.key\n    key: node.key\n", "f.yaml:4: sip.tls.certificate: .* no certificate in"),
            ("    key: node.key\n    certificate: ../x\n", "f.yaml:5: sip.tls.certificate: .* cannot be read"),
        ],
    )
    def test_what_does_not(self, tmp_path: Path, keys: str, message: str) -> None:
        authority = Authority(tmp_path)
        authority.issue("gw.example.com")
        authority.issue("other.example.com", stem="other")
        (tmp_path / "f.yaml").write_text(self.TEXT + keys)
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / "f.yaml")


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    for model in (Config, TenantConfig):
        for name, field in ((field.alias or name, field) for name, field in model.model_fields.items()):
            section = field.annotation
            assert f"`{name}" in page, name
            if isinstance(section, type) and issubclass(section, Section):
                for key in (inner.alias or key for key, inner in section.model_fields.items()):
                    assert f"{name}.{key}" in page or f".{key}`" in page or f"`{key}`" in page, f"{name}.{key}"
