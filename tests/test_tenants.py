"""Which tenant a call is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sipbridge import call_templates
from sipbridge.agent import Capabilities
from sipbridge.agent_settings import capabilities, temperature
from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, AudioFormat
from sipbridge.audio import PCMA as PCMA_AUDIO
from sipbridge.audio import PCMU as PCMU_AUDIO
from sipbridge.call_fields import CallFields
from sipbridge.codecs import G722, L16_8K, L16_16K, OPUS, PCMA, PCMU, Codec
from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.media.downlink import Downlink
from sipbridge.media.params import MediaParams
from sipbridge.media.rtp import Sequencer
from sipbridge.media.uplink import Uplink
from sipbridge.prompts import DIRECTORY, load_prompt
from sipbridge.providers import register
from sipbridge.sip.headers import NameAddr
from sipbridge.sip.identity import CallerIdentity, Party
from sipbridge.tenant_checks import warnings
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant


class Quiet:
    """Takes a temperature from 0.6 to 1.2, and is never started."""

    capabilities = Capabilities(takes_temperature=(0.6, 1.2))

    def __call__(self, credential: object, options: object) -> object:
        return object()

    def capabilities_for(self, credential: object) -> Capabilities:
        return self.capabilities

    def tools_for_session(self, tools: object) -> list[dict[str, object]]:
        return []


class Cold(Quiet):
    capabilities = Capabilities()


@pytest.fixture(autouse=True)
def _providers() -> None:
    register(Quiet(), "quiet")  # type: ignore[arg-type]
    register(Cold(), "cold")  # type: ignore[arg-type]


def tenant(id: str, match: str, agent: str = "provider: quiet") -> Tenant:
    return Tenant(id, parse(f"match: {match}\nagent: {{{agent}}}\n", TenantConfig, f"{id}.yaml"))


def chosen(directory: TenantDirectory, to: str, **fields: object) -> str | None:
    found = directory.resolve(CallFields(to, **fields))  # type: ignore[arg-type]
    return found.id if found else None


def test_the_dialled_user_part_decides() -> None:
    directory = TenantDirectory([tenant("acme", "{to: ['+1555010*', agent]}"), tenant("other", "{to: '+15550200'}")])
    assert chosen(directory, "+15550100") == "acme"
    assert chosen(directory, "agent") == "acme"
    assert chosen(directory, "+15550200") == "other"
    assert chosen(directory, "Agent") is None
    assert chosen(directory, "") is None


def test_the_most_specific_wins() -> None:
    directory = TenantDirectory(
        [
            tenant("rest", "{}"),
            tenant("range", "{to: '+1555*'}"),
            tenant("exact", "{to: '+15550100'}"),
            tenant("vip", "{to: '+1555*', from: '+15550199'}"),
            tenant("header", "{to: '+1555*', header: {X-Tenant: h}, from: '+1*'}"),
        ]
    )
    assert chosen(directory, "anything") == "rest"
    assert chosen(directory, "+15550101") == "range"
    assert chosen(directory, "+15550100") == "exact"
    assert chosen(directory, "+15550101", caller="+15550199") == "vip"
    assert chosen(directory, "+15550101", caller="+15550199", headers={"x-tenant": "h"}) == "header"


def test_a_trunk_condition_must_hold() -> None:
    directory = TenantDirectory([tenant("pbx", "{to: a, trunk: pbx}")])
    assert chosen(directory, "a", trunk="pbx") == "pbx"
    assert chosen(directory, "a") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("{to: a}", "{to: a}"), ("{to: 'a*'}", "{to: '*a'}"), ("{to: '1?3'}", "{to: '12?'}"), ("{}", "{}")],
)
def test_two_that_are_equally_specific_are_an_error(one: str, other: str) -> None:
    with pytest.raises(ConfigError, match="tenant x: match.to: .* and .* of tenant y overlap"):
        TenantDirectory([tenant("x", one), tenant("y", other)])


@pytest.mark.parametrize(
    ("one", "other"),
    [("{to: 'a*'}", "{to: 'b*'}"), ("{to: 'a*'}", "{to: 'ab*'}"), ("{to: a, from: b}", "{to: a, from: c}")],
)
def test_two_that_cannot_meet_or_differ_in_weight_are_fine(one: str, other: str) -> None:
    assert len(TenantDirectory([tenant("x", one), tenant("y", other)]).tenants) == 2


def test_why_a_tenant_was_not_chosen() -> None:
    directory = TenantDirectory([tenant("a", "{to: '1*'}"), tenant("b", "{to: '12'}"), tenant("c", "{to: x}")])
    assert dict(directory.explain(CallFields("12"))) == {
        "b": "chosen: the most specific match",
        "a": "matches, but is less specific: a shorter literal part of 'to' ('1*' against '12' of b)",
        "c": "to: '12' is none of x",
    }


def test_texts_are_filled_in_with_the_calls_fields() -> None:
    fields = CallFields("agent", caller="+15550123", headers={"X-Member": "gold"})
    one = tenant("a", "{}", "provider: quiet, instructions: \"For {{ call.from }}, {{ header['x-member'] }}.\"")
    assert one.instructions(fields) == "For +15550123, gold."
    default = tenant("a", "{}", "provider: quiet, greeting: \"Hi {{ header['X-Name'] | default('there') }}.\"")
    assert default.greeting(fields) == "Hi there."
    assert one.greeting(fields) is None


def test_a_default_stands_for_what_is_not_known_of_a_call() -> None:
    text = "provider: quiet, greeting: \"Hi {{ call.display | default('there') }}{{ call.trunk | d('!', true) }}\""
    assert tenant("a", "{}", text).greeting(CallFields("1")) == "Hi there!"
    assert tenant("a", "{}", text).greeting(CallFields("1", trunk="pbx")) == "Hi therepbx"


def test_a_template_reaches_nothing_but_the_call() -> None:
    escape = tenant("a", "{}", 'provider: quiet, instructions: "{{ call.__class__.__mro__[1].__subclasses__() }}"')
    assert escape.instructions(CallFields("a")) == ""


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("Hello {{ header['X-Name'] }}.", "Hello ."),
        ("Hello {{ 1 / 0 }}there.", "Hello there."),
        ("Hello {% for i in range(1000000000) %}x{% endfor %}", "Hello x"),
        ("Hello {{ call['from'] + 1 }}", "Hello "),
    ],
)
def test_no_caller_hears_a_template(text: str, heard: str) -> None:
    agent = {"provider": "quiet", "greeting": text}
    assert (
        Tenant("a", TenantConfig.model_validate({"agent": agent})).greeting(CallFields("a", caller="+15550123"))
        == heard
    )


def test_templates_may_name_what_a_call_has() -> None:
    assert set(CallFields("a").templated()) == set(call_templates.CALL)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{{ call.form }}", "call.form: did you mean 'call.from'?"),
        ("{{ call['zzz'] }}", "call.zzz: call has asserted, dialled"),
        ("{{ caller }}", "unknown names caller; 'call' and 'header' exist"),
        ("{{ call.to | defualt('x') }}", "not a valid template: No filter named 'defualt'"),
        ("{% set n = call.to %}{% for c in n %}{{ loop.index }}{{ c }}{% endfor %}", None),
        ("Hello {{ header['X-Name'] }}", 'header["X-Name"]: a call may come without it; give a default: {{ header["X-'),
        ("{{ header.Subject }}", "header.Subject: a call may come without it"),
        ("{{ header[call.to] }}", "header[...]: a call may come without it"),
        ("{{ header['X-A'] | upper }}", 'header["X-A"]: a call may'),
        ("{{ call.to | default(header['X-A']) }}", 'header["X-A"]: a call may'),
        ("{{ header['X-A'] or header['X-B'] }}", 'header["X-B"]: a call may'),
        ("{% if header['X-A'] %}{{ header['X-B'] }}{% endif %}", 'header["X-B"]: a call may'),
        ("{{ header['X-A'] | default('unknown') | upper }}", None),
        ("{{ header['X-A'] | d(header['X-B']) | default('x') }}", None),
        ("{{ header['X-A'] or 'nobody' }}{{ header.get('X-B', '') }}", None),
        ("{% if header['X-A'] is defined %}member {{ header['X-A'] }}{% endif %}", None),
        ("{% if header['X-A'] %}{{ header['X-A'] }}{% else %}nobody{% endif %}", None),
        ("{{ header['X-A'] if header['X-A'] else 'nobody' }}", None),
    ],
)
def test_what_no_call_has_is_found_when_the_file_is_read(text: str, fault: str | None) -> None:
    found = next(call_templates.faults(text), None)
    assert found is None if fault is None else found is not None and found.startswith(fault)


def load(tmp_path: Path, **files: str) -> TenantDirectory:
    (tmp_path / "tenants").mkdir()
    for name, text in files.items():
        (tmp_path / "tenants" / f"{name}.yaml").write_text(text)
    return TenantDirectory.load(Config(), tmp_path)


def test_a_directory_of_files(tmp_path: Path) -> None:
    directory = load(tmp_path, acme="agent: {provider: quiet}\nmatch: {to: a}\n")
    assert [tenant.id for tenant in directory.tenants] == ["acme"]


def test_all_mistakes_of_a_directory_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            a="agent: {provider: quite}\n",
            b="agent: {provider: quiet, voise: x}\n",
            c="agent: {provider: quiet, instructions: '{{ caller }}'}\n",
            d="agent: {provider: quiet, instructions: '{{ call.'}\n",
            e="agent: {provider: quiet}\nmatch: {trunk: pbx}\n",
        )
    text = str(caught.value)
    assert "a.yaml:1: agent.provider: unknown provider 'quite'" in text
    assert "did you mean 'quiet'" in text
    assert "b.yaml:1: agent.voise: unknown key; did you mean 'voice'?" in text
    assert "c.yaml:1: agent.instructions: unknown names caller" in text
    assert "d.yaml:1: agent.instructions: not a valid template" in text
    assert "e.yaml:2: match.trunk: no trunk is called 'pbx'" in text


def test_recording_needs_a_place_to_record_to(tmp_path: Path) -> None:
    text = "agent: {provider: quiet}\n\nrecording:\n  enabled: true\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, acme=text)
    place = tmp_path / "tenants" / "acme.yaml"
    expected = f"{place}:4: recording.enabled: there is no recordings.directory in sipbridge.yaml to record to"
    assert str(caught.value) == expected
    config = parse("recordings: {directory: sound}", Config, "sipbridge.yaml", directory=tmp_path)
    assert config.recordings.directory == tmp_path / "sound"
    (tenant,) = TenantDirectory.load(config, tmp_path).tenants
    assert tenant.config.recording.enabled


class TestTheNotice:
    def tenant(self, text: str) -> Tenant:
        return Tenant(
            "t", parse(f"agent: {{provider: quiet, greeting: Hello.}}\nrecording: {text}", TenantConfig, "t.yaml")
        )

    def test_a_sentence_goes_before_the_greeting(self) -> None:
        fields = CallFields(to="agent")
        spoken = self.tenant("{enabled: true, notice: We record.}")
        assert spoken.first_words(fields) == "We record. Hello."
        assert spoken.notice(8000) is None
        assert spoken.protect_greeting_ms == 0
        assert self.tenant("{enabled: false, notice: We record.}").first_words(fields) == "Hello."

    def test_a_file_is_played_and_not_to_be_interrupted(self) -> None:
        played = self.tenant(f"{{enabled: true, notice: {DIRECTORY / 'one-moment.wav'}}}")
        assert played.first_words(CallFields(to="agent")) == "Hello."
        assert played.notice(24000) == load_prompt("one-moment", 24000)
        assert played.protect_greeting_ms == pytest.approx(len(load_prompt("one-moment", 8000)) / 16, abs=2)
        assert self.tenant(f"{{notice: {DIRECTORY / 'one-moment.wav'}}}").notice(8000) is None

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, "No such file"),
            (b"RIFF", "no WAV file that can be played"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "no WAV file"),
        ],
    )
    def test_a_file_that_cannot_be_played(self, tmp_path: Path, content: bytes | None, complaint: str) -> None:
        if content is not None:
            (tmp_path / "n.wav").write_bytes(content)
        text = "agent: {provider: quiet}\nrecording:\n  notice: n.wav\n"
        with pytest.raises(ConfigError, match=rf"t.yaml:3: recording.notice: .*n.wav: .*{complaint}"):
            parse(text, TenantConfig, "t.yaml", directory=tmp_path)


def test_a_ceiling_that_nothing_would_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    text = "agent: {provider: quiet}\nlimits:\n  spend_per_call: 0.5\n"
    (tmp_path / "tenants" / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"a.yaml:3: limits.spend_per_call: sipbridge.yaml has no prices for quiet"):
        TenantDirectory.load(Config(), tmp_path)
    priced = parse("prices: {quiet: {'*': {session_seconds: 1}}}", Config, "s.yaml")
    assert TenantDirectory.load(priced, tmp_path).get("a") is not None


def test_no_tenant_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no tenant"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        TenantDirectory.load(Config(), tmp_path / "elsewhere")


def test_temperature_is_clamped_or_left_out_with_a_warning() -> None:
    hot = tenant("a", "{}", "provider: quiet, temperature: 2").config
    assert temperature(hot.agent, capabilities(hot.agent)) == 1.2
    assert list(warnings(hot)) == ["agent.temperature is clamped to 0.6..1.2, the range of quiet"]
    cold = tenant("a", "{}", "provider: cold, temperature: 0.7").config
    assert temperature(cold.agent, capabilities(cold.agent)) is None
    assert list(warnings(cold)) == ["agent.temperature is not sent: cold takes none"]
    unsaid = tenant("a", "{}").config
    assert temperature(unsaid.agent, capabilities(unsaid.agent)) is None


@pytest.mark.parametrize(("key", "plain"), [("sk-written-out", True), ("${A_KEY}", False), ("file:/run/key", False)])
def test_a_key_in_plain_sight_is_warned_of_and_not_shown(key: str, plain: bool) -> None:
    said = list(warnings(tenant("a", "{}", f"provider: quiet, api_key: '{key}'").config))
    assert len(said) == plain
    assert key not in " ".join(said)


# --- rates ------------------------------------------------------------------------------------------------------------


WIDE_IN = Capabilities(
    native_formats=frozenset({PCMU_AUDIO, PCMA_AUDIO}), input_rates=(8000, 24000), output_rates=(8000, 16000)
)
FIXED = Capabilities()
ONE_RATE = Capabilities(input_format=PCM_24K)


@pytest.mark.parametrize(
    ("capabilities", "codec", "up", "down"),
    [
        (FIXED, PCMU, PCM_16K, PCM_24K),
        (FIXED, G722, PCM_16K, PCM_24K),
        (FIXED, OPUS, PCM_16K, PCM_24K),
        (ONE_RATE, PCMU, PCM_24K, PCM_24K),
        (ONE_RATE, L16_16K, PCM_24K, PCM_24K),
        (WIDE_IN, PCMU, PCMU_AUDIO, PCMU_AUDIO),
        (WIDE_IN, PCMA, PCMA_AUDIO, PCMA_AUDIO),
        (WIDE_IN, G722, PCM_16K, PCM_16K),
        (WIDE_IN, L16_8K, PCM_8K, PCM_8K),
        (WIDE_IN, OPUS, PCM_24K, PCM_24K),
        (Capabilities(input_rates=(24000, 48000), output_rates=(48000,)), OPUS, PCM_24K, PCM_24K),
    ],
)
def test_a_leg_and_a_model_meet_with_one_conversion_of_the_rate_at_most(
    capabilities: Capabilities, codec: Codec, up: AudioFormat, down: AudioFormat
) -> None:
    class Model(Quiet):
        pass

    Model.capabilities = capabilities
    register(Model(), "model")  # type: ignore[arg-type]
    assert tenant("t", "{}", "provider: model").formats(codec) == (up, down)
    settings = MediaParams(codec, None, 0, 0, uplink=up, downlink=down)
    ends = {
        "up": Uplink(settings, 0.0).converter,
        "down": Downlink(settings, Sequencer(1, 0, 0)).converter,
    }
    for way, converter in ends.items():
        coded_at = {codec.sample_rate, *codec.other_rates}
        assert (converter.source if way == "up" else converter.target).rate in coded_at
    if {up.rate, down.rate} <= {codec.sample_rate, *codec.other_rates}:
        assert [converter.delay_ms for converter in ends.values()] == [0, 0], "nothing is resampled"


def test_the_operator_may_want_pcm() -> None:
    class Model(Quiet):
        capabilities = WIDE_IN

    register(Model(), "model")  # type: ignore[arg-type]
    assert tenant("t", "{}", "provider: model, native_audio: false").formats(PCMU) == (PCM_8K, PCM_8K)


def test_what_a_model_can_do_needs_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Curious(Quiet):
        def capabilities_for(self, credential: object) -> Capabilities:
            seen.append(credential)
            return self.capabilities

    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    register(Curious(), "curious")  # type: ignore[arg-type]
    one = tenant("t", "{}", "provider: curious, api_key: '${NO_SUCH_KEY}', model: m, tts: {provider: x, api_key: 'k'}")
    assert one.capabilities == Quiet.capabilities
    assert (seen[0]["model"], seen[0]["api_key"], seen[0]["tts"]["api_key"]) == ("m", "hidden", "hidden")


def test_the_greeting_goes_with_the_setup_of_calls_that_come_in() -> None:
    """Where we call, nobody is there yet to hear it."""
    greeter = tenant("acme", "{}", "provider: quiet, greeting: 'Hello {{ call.to }}'")
    party = Party.of(NameAddr.parse("<sip:100@example.com>"))
    called = CallFields(to="100", identity=CallerIdentity(party, party, party, trusted=False))
    assert greeter.agent_options(called, PCM_16K, PCM_16K, ()).greeting == "Hello 100"
    assert greeter.agent_options(CallFields(to="100"), PCM_16K, PCM_16K, ()).greeting == ""


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("early_media: true\nanswer: immediately", ["early_media has no effect: answer is 'immediately'"]),
        ("early_media: true\nwaiting_sound: null", ["early_media has no effect: there is no waiting_sound"]),
        ("rings: 3", ["rings has no effect: answer is not 'ring_then_answer'"]),
        ("rings: 3\nanswer: ring_then_answer\nearly_media: true", []),
    ],
)
def test_what_has_no_effect_in_answering_is_said(keys: str, said: list[str]) -> None:
    config = parse(f"agent: {{provider: offline}}\n{keys}\n", TenantConfig, "t.yaml")
    assert list(warnings(config)) == said


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Be brief.", "Be brief.\n\nThe telephone network says that a machine has answered this call (voicemail)."),
        ("You talk to a {{ call.machine or 'person' }}.", "You talk to a voicemail."),
        ("", "The telephone network says that a machine has answered this call (voicemail)."),
    ],
)
def test_instructions_say_that_a_machine_has_answered(template: str, said: str) -> None:
    tenant = Tenant("t", TenantConfig.model_validate({"agent": {"provider": "offline", "instructions": template}}))
    assert tenant.instructions(CallFields(to="1", machine="voicemail")) == said
    assert "machine" not in tenant.instructions(CallFields(to="1"))


@pytest.mark.parametrize(("how", "key"), [("mode: attended", "mode"), ("via: bridge", "via")])
def test_a_transfer_that_we_have_to_make_needs_a_way_out(tmp_path: Path, how: str, key: str) -> None:
    tool = f"tools:\n  transfer_call:\n    targets: {{desk: 'tel:+15550100'}}\n    {how}\n"
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "a.yaml").write_text(f"agent: {{provider: quiet}}\n{tool}")
    inbound = "{name: pbx, sources: ['192.0.2.1/32']}"
    with pytest.raises(ConfigError, match=rf"a.yaml:5: tools.transfer_call.{key}: the target is called by us"):
        TenantDirectory.load(parse(f"trunks: [{inbound}]", Config, "s.yaml"), tmp_path)
    both = inbound.replace("}", ", outbound: {proxy: 'sip:pbx.example.com'}}")
    assert TenantDirectory.load(parse(f"trunks: [{both}]", Config, "s.yaml"), tmp_path).get("a") is not None


def test_the_trunk_to_call_over_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.yaml:2: outbound_trunk: no trunk is called 'pbx'"):
        load(tmp_path, a="agent: {provider: quiet}\noutbound_trunk: pbx\n")


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10000000000 }}",
        "{{ 9**9**9 }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ ('a' * 9999) * 9999 }}",
        "{{ 'a'|center(1000000000) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_template_that_could_take_for_ever_is_refused_or_leaves_that_out(text: str) -> None:
    """Both when the file is read, beside all the others, and in a call, beside the sound of all calls."""
    assert list(call_templates.faults(text)) or call_templates.render(text, {"call": {}, "header": {}}, "c") == ""


def test_a_template_may_compute_a_little() -> None:
    text = "{{ 2 * 3 }} {{ 2**3 }} {{ 107 % 100 }} {{ '-' * 5 }} {% for c in call.to %}{{ c }} {% endfor %}"
    assert not list(call_templates.faults(text))
    assert call_templates.render(text, {"call": {"to": "12"}, "header": {}}, "c") == "6 8 7 ----- 1 2 "
