"""Whatever stands in a file of the configuration: it loads, shows itself and loads again the same, or it is refused
with file, line and key; in a time and a memory that its length bounds."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from sipbridge import tenant_checks
from sipbridge.config import Config
from sipbridge.config_shown import shown
from sipbridge.configfile import Section, parse
from sipbridge.errors import ConfigError
from sipbridge.tenant_config import TenantConfig

TOLD = re.compile(r"f\.yaml:[1-9]\d*: \S")


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel) and inner is not model:
                yield from _keys(inner)


KEYS = sorted({*_keys(Config), *_keys(TenantConfig), "provider", "unknown", "<<", "0", ""})
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=12)
    | st.sampled_from(
        ["offline", "openai", "udp://127.0.0.1:5060", "16384-32767", "${KEY}", "file:x", "optional", "off"]
    )
    | st.sampled_from(
        ["main", "agent", "+1555*", "{{ call.from }}", "{{ x }}", "https://example.com", "\x00", "\ufeff"]
    )
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | _scalars, inner, max_size=4),
    max_leaves=12,
)


def _section(model: type[Section]) -> st.SearchStrategy[dict[Any, Any]]:
    """Keys that there are, with values that are mostly right."""
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            right: st.SearchStrategy[Any] = _section(kind)
        elif isinstance(field.default, (str, int, float, bool, type(None))):
            right = st.just(field.default)
        else:
            right = st.sampled_from([[], {}])
        values[field.alias or name] = right | right | _values
    return st.fixed_dictionaries({}, optional=values)


def told_or_same(text: str, model: type[Section]) -> None:
    try:
        section = parse(text, model, "f.yaml")
    except ConfigError as error:
        told = str(error)
        assert TOLD.match(told), told
        return
    again = parse(shown(section), model, "f.yaml")
    assert yaml.safe_load(shown(again)) == yaml.safe_load(shown(section))
    if isinstance(section, TenantConfig):
        list(tenant_checks.faults(section, Config()))


@pytest.mark.parametrize("model", [Config, TenantConfig])
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_what_has_the_shape_of_a_file_loads_or_is_told(model: type[Section], data: st.DataObject) -> None:
    content = data.draw(_section(model))
    if model is TenantConfig and data.draw(st.booleans()):
        content["agent"] = {"provider": "offline"}
    told_or_same(yaml.dump(content, allow_unicode=True), model)


@pytest.mark.parametrize("model", [Config, TenantConfig])
@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab:- \n\t{}[]&*<>|!'\"#%@`,?0.~\x00\ufeff\r\u2028é"), max_size=60))
@example(text="\ufeffsip: {}")
@example(text="a: &a [*a]")
@example(text="? [a]\n: b")
@example(text="<<: 1")
@example(text="!!python/object:os.system {}")
@example(text="--- a\n--- b")
@example(text="1: {1: {1: 1}}")
def test_whatever_the_text_there_is_an_answer(model: type[Section], text: str) -> None:
    told_or_same(text, model)


_LAUGHS = "\n".join(["a0: &a0 [x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
_MERGES = "\n".join(["a0: &a0 {k: v}", *(f"a{n}: &a{n} {{<<: [{f'*a{n - 1}, ' * 9}]}}" for n in range(1, 12))])
_LONG = "\n".join([f"t: &t '{'x' * 1_000_000}'", "u: [" + ", ".join(["*t"] * 100_000) + "]"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_LAUGHS, r"f\.yaml:[67]: not valid YAML: there is too much in it, with what its aliases repeat"),
        (_MERGES, r"f\.yaml:[67]: not valid YAML: there is too much in it"),
        (_LONG, r"f\.yaml:2: not valid YAML: there is too much in it"),
        ("sip:\n" + "  " + "[" * 100_000, r"f\.yaml:2: not valid YAML: it is nested too deeply"),
        ("sip: " + "{a: " * 5000 + "}" * 5000, r"f\.yaml:1: not valid YAML: it is nested too deeply"),
        ("sip:\n  a: &a\n    b: *a\n", r"f\.yaml:3: not valid YAML: \*a is an alias of what it stands in"),
        ("limits:\n  max_calls: " + "9" * 100_000, r"f\.yaml:2: not valid YAML: too long a number"),
        ("limits: {}\nnode:\n  id: 2026-13-45\n", r"f\.yaml:3: not valid YAML: '2026-13-45': month must be"),
        ("limits: {max_calls: .nan}", r"f\.yaml:1: limits\.max_calls: "),
        ("limits: {max_calls: 1e999}", r"f\.yaml:1: limits\.max_calls: "),
        ("limits:\n  max_call_seconds: .inf", r"f\.yaml:2: limits\.max_call_seconds: "),
        ("limits:\n\tmax_calls: 3\n", r"f\.yaml:2: not valid YAML: found character '\\t'"),
        ("sip: {}\nnode:\n  id: 'a\x00b'\n", r"f\.yaml:3: not valid YAML: a character that cannot be"),
        ("sip: {}\nlimits: {}\nsip: {}\n", r"f\.yaml:3: sip: key given twice"),
        ("base: &b {max_calls: 0}\nlimits:\n  <<: *b\n", r"(?s).*f\.yaml:1: limits\.max_calls: "),
        (
            "agent:\n  provider: offline\n  instructions: " + "x" * 1_000_000,
            r"f\.yaml:3: agent\.instructions: .*200000",
        ),
    ],
    ids=lambda value: str(value)[:20].encode().hex() if "\x00" in str(value) else str(value)[:20],
)
def test_bombs_are_refused_with_their_line_at_once(text: str, told: str) -> None:
    model = TenantConfig if text.startswith("agent") else Config
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ConfigError) as caught:
            parse(text, model, "f.yaml")
        took, (_, most) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert re.match(told, str(caught.value)), str(caught.value)[:300]
    assert took < 5
    assert most < 100_000_000


def test_a_file_with_a_mark_of_byte_order_is_a_file(tmp_path: Any) -> None:
    from sipbridge.config import load_config

    (tmp_path / "sipbridge.yaml").write_bytes(b"\xef\xbb\xbfnode: {id: n1}\n")
    assert load_config(tmp_path / "sipbridge.yaml").node.id == "n1"


def test_a_file_that_is_none_or_endless_is_not_read(tmp_path: Any) -> None:
    from sipbridge.config import load_config

    (tmp_path / "long.yaml").write_bytes(b"#" * 9_000_000)
    for path in (tmp_path / "long.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(path)
