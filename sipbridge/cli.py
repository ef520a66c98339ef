"""The command line: arguments, logging, exit codes. What the commands do is elsewhere.

Exit status: 0, 1 (it failed) or 2 (wrong usage or configuration).
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sipbridge import __version__, logs
from sipbridge.commands import configuration, erase, history, recordings, tenants
from sipbridge.commands.common import DEFAULT_CONFIG, ConfigPath, run
from sipbridge.errors import ConfigError, SipbridgeError

app = typer.Typer(
    name="sipbridge",
    help="A telephony gateway: phone calls talk to realtime speech models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(configuration.app, name="config")
app.add_typer(history.app, name="history")
app.add_typer(tenants.app, name="tenants")
app.command()(history.why)
app.add_typer(recordings.app, name="recordings", no_args_is_help=True)
app.command()(erase.erase)


def main() -> None:
    """The console script."""
    try:
        app()
    except ConfigError as error:
        sys.exit(_failed(error, 2))
    except (SipbridgeError, OSError) as error:
        sys.exit(_failed(error, 1))
    except KeyboardInterrupt:
        sys.exit(130)


def _failed(error: Exception, status: int) -> int:
    print(f"sipbridge: {error}", file=sys.stderr)
    return status


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    log: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
    log_json: Annotated[bool, typer.Option("--log-json", help="One JSON object a line.")] = False,
) -> None:
    if version:
        print(f"sipbridge {__version__}")
        raise typer.Exit
    if log not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"{log!r} is none of debug, info, warning, error", param_hint="--log")
    logs.set_up(log, json=log_json)  # type: ignore[arg-type]  # checked above


@app.command()
def serve(
    config: ConfigPath = DEFAULT_CONFIG,
    drain_seconds: Annotated[float, typer.Option(help="How long calls may go on after SIGTERM.")] = 10,
) -> None:
    """Answer calls until told to stop: the first SIGTERM or Ctrl-C drains, a second one ends everything at once."""
    run(_serve(config, drain_seconds))


async def _serve(path: Path, drain_seconds: float) -> None:
    from sipbridge.gateway import Gateway
    from sipbridge.history.opening import opened
    from sipbridge.tenant_source.opening import opened_tenants, watched

    config, tenants = _load(path, keep=True)
    stop, now = _signals()
    signals = asyncio.get_running_loop()
    signals.add_signal_handler(signal.SIGHUP, lambda: None)  # who asks too early is not to end us
    async with (
        opened_tenants(config, tenants, path.parent) as source,
        opened(config, source) as history,
        watched(config, tenants, path, settled=keep_new_tenants) as look,
        Gateway(config, source, history=history) as gateway,
    ):
        keep_start_up()

        def reload() -> None:
            """All that is read again when it changes, now: for those who want to see at once that it can be."""
            gateway.transport.tls.reload()
            look()

        signals.add_signal_handler(signal.SIGHUP, reload)
        await stop.wait()
        drained = asyncio.create_task(gateway.drain(drain_seconds))
        forced = asyncio.create_task(now.wait())
        await asyncio.wait({drained, forced}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, forced):
            task.cancel()


def keep_start_up() -> None:
    """What there is now stays until the end: a full garbage collection that walked through all of it would hold up the
    sound of every call by the length of a packet. For the same reason there is hardly ever one: a call that is over
    leaves nothing to be collected (`tests/sip/test_freed.py` and others see to that), but adds to what triggers it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 1000)


def keep_new_tenants(count: int) -> None:
    """Many stay as well, and would be walked through like what there was at the start."""
    if count >= 100:
        gc.freeze()


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Set by the first SIGTERM or SIGINT, and by the second."""
    first, second = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    return first, second


def _load(path: Path, *, keep: bool = False) -> tuple[Any, Any]:
    """Configuration and tenants, with what will have no effect said aloud. `keep` as in `load_directory`."""
    from sipbridge.config import load_config
    from sipbridge.tenant_checks import warnings
    from sipbridge.tenant_source.opening import load_directory

    config = load_config(path)
    tenants = load_directory(config, path.parent, keep=keep)
    for warning in warnings(config):
        print(f"{path}: warning: {warning}", file=sys.stderr)
    for tenant in tenants.tenants:
        for warning in warnings(tenant.config):
            print(f"tenant {tenant.id}: warning: {warning}", file=sys.stderr)
    return config, tenants


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the call: 0 if it went well, else 1.")] = False,
) -> None:
    """Start a gateway on the embedded model, place a real call to it, and stay up for yours."""
    if not run(_demo(once)):
        raise typer.Exit(1)


async def _demo(once: bool) -> bool:
    from sipbridge.demo import demonstrate

    stop, _ = _signals()
    shown = asyncio.create_task(demonstrate(stop, once=once))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({shown, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not shown.done():
        shown.cancel()
        await asyncio.wait({shown})
        return True
    return shown.result()


@app.command()
def call(
    target: Annotated[str, typer.Argument(help="sip:USER@HOST[:PORT][;transport=tcp|tls], or sips:")],
    wav: Annotated[Path | None, typer.Option(help="Say this file once the greeting is over.")] = None,
    say: Annotated[str | None, typer.Option(help="Say these words (with espeak-ng).")] = None,
    record: Annotated[Path | None, typer.Option(help="Write what is heard to this WAV.")] = None,
    stereo: Annotated[bool, typer.Option(help="Record both: left what is said, right what is heard.")] = False,
    dtmf: Annotated[str, typer.Option(help="Press these keys, each after the last was answered.")] = "",
    barge_in: Annotated[bool, typer.Option("--barge-in", help="Interrupt the answer.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Hang up so long after the answer.")] = None,
    expect: Annotated[str, typer.Option(help="answered, greeting<2000, busy, 480 ...: else exit 1.")] = "",
    codec: Annotated[
        list[str] | None, typer.Option(help="Offer these, in this order: opus, G722, PCMU, PCMA, L16.")
    ] = None,
    srtp: Annotated[str, typer.Option(help="Encrypt the sound: optional, sdes or dtls.")] = "off",
    ladder: Annotated[bool, typer.Option("--ladder", help="Print the call's SIP messages at the end.")] = False,
    ca: Annotated[Path | None, typer.Option(help="With TLS: whom to trust, instead of the usual authorities.")] = None,
) -> None:
    """Be a phone: dial, speak, press keys, record, and print what happened when."""
    from sipbridge.simulator.caller import CallOptions, place_call
    from sipbridge.simulator.caller_options import parse_srtp
    from sipbridge.simulator.caller_report import parse_expectations
    from sipbridge.sip.tls import TlsSettings

    options = CallOptions(
        target=target,
        wav=wav,
        say=say,
        record=record,
        stereo=stereo,
        dtmf=dtmf,
        barge_in=barge_in,
        seconds=seconds,
        expect=parse_expectations(expect),
        codecs=tuple(codec) if codec else ("PCMU", "PCMA"),
        srtp=parse_srtp(srtp),
        tls=TlsSettings(ca=ca),
    )
    report = run(place_call(options, print))
    print(*report.summary(), sep="\n")
    if ladder:
        print("", *report.ladder, sep="\n")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def dial(
    tenant: Annotated[str, typer.Argument(help="Whose agent speaks.")],
    number: Annotated[str, typer.Argument(help="Whom to call: a number, a name, a tel or sip URI.")],
    config: ConfigPath = DEFAULT_CONFIG,
    trunk: Annotated[
        str | None, typer.Option(help="Over which trunk; else the tenant's, else the first that is up.")
    ] = None,
    caller: Annotated[str | None, typer.Option("--from", help="Call from this number; else the trunk's.")] = None,
) -> None:
    """Call somebody, let a tenant's agent talk to them, and print the report: 0 if there was a conversation, else 1."""
    from sipbridge.dial import went_well
    from sipbridge.errors import CallNotPlacedError

    try:
        report = run(_dial(config, tenant, number, trunk, caller))
    except CallNotPlacedError as error:
        raise ConfigError(str(error)) from error
    print(json.dumps(report.to_json(), indent=2))
    if not went_well(report):
        raise typer.Exit(1)


async def _dial(path: Path, tenant: str, number: str, trunk: str | None, caller: str | None) -> Any:
    from sipbridge.dial import dial
    from sipbridge.tenant_source.opening import opened_tenants

    config, tenants = _load(path)
    stop, _ = _signals()
    async with opened_tenants(config, tenants, path.parent) as source:
        return await dial(config, source, tenant, number, trunk=trunk, from_=caller, stop=stop)


@app.command()
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    offline: Annotated[bool, typer.Option("--offline", help="Only read: open no socket, ask nobody.")] = False,
) -> None:
    """Say of each listener, certificate, name, trunk and tenant's agent whether it works, and what to do if not."""
    from sipbridge.agent_settings import lacking, secrets_of_agents
    from sipbridge.config import secrets_of
    from sipbridge.configfile import dotted

    settings, tenants = _load(config)
    missing = []
    secrets = [*secrets_of(settings)]
    for tenant in tenants.tenants:
        secrets += [(f"tenant {tenant.id}: {place}", secret) for place, secret in secrets_of_agents(tenant.config)]
        of_tools = ((dotted(("tools", *at)), secret) for at, secret in tenant.config.tools.secrets())
        secrets += [(f"tenant {tenant.id}: {place}", secret) for place, secret in of_tools]
    for place, secret in secrets:
        try:
            secret.reveal()
        except ConfigError as error:
            missing.append(f"{place}: {error}")
    for line in missing:
        print(line, file=sys.stderr)
    print(f"{config}: {len(tenants.tenants)} tenants: {', '.join(tenant.id for tenant in tenants.tenants)}")
    failed = False if offline else _looked_at(settings, tenants.tenants, config.parent)
    agents = (agent for tenant in tenants.tenants for _, agent in tenant.config.places_of_agents())
    incomplete = missing or any(map(lacking, agents))  # the latter is said by now
    if incomplete or failed:
        raise typer.Exit(2 if incomplete else 1)


def _looked_at(settings: Any, tenants: Any, base: Path) -> bool:
    """Print what was found; whether something does not work."""
    from sipbridge.check import check

    logs.set_up("error", json=False)  # what the parts would log is in the findings
    findings = run(check(settings, tenants, base=base))
    print(*findings, sep="\n")
    return any(finding.verdict == "failed" for finding in findings)


@app.command()
def route(
    to: Annotated[str, typer.Option(help="The dialled user part.")],
    caller: Annotated[str, typer.Option("--from", help="The caller.")] = "",
    trunk: Annotated[str | None, typer.Option(help="The trunk that the call comes by.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="NAME: VALUE, as often as needed.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Say which tenant a call would be for, and why not the others (exit status 1: for none; 2: a file is refused)."""
    from sipbridge.call_fields import CallFields
    from sipbridge.config import load_config
    from sipbridge.tenant_source.opening import look_at_directory

    settings = load_config(config)
    tenants = look_at_directory(settings, config.parent)
    headers = dict(_header(text) for text in header or ())
    fields = CallFields(to=to, caller=caller, trunk=trunk, headers=headers)
    if settings.tenants.backend is not None and run(_backend_routes(settings, config.parent, fields)):
        return
    for tenant, reason in tenants.explain(fields):
        print(f"{tenant}: {reason}")
    if tenants.refused:
        raise ConfigError("\n".join(tenants.refused.values()))
    if tenants.resolve(fields) is None:
        raise typer.Exit(1)


async def _backend_routes(settings: Any, base: Path, fields: Any) -> bool:
    """Whether the tenants' backend has one for such a call; it is printed."""
    from sipbridge.tenant_source.looking import ask_once

    found = await ask_once(settings, base, fields)
    if found is None:
        print(f"{settings.tenants.url_to_show}: nobody's")
        return False
    print(f"{found.id}: chosen: {settings.tenants.url_to_show} says so (version {found.version})")
    return True


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"{text!r}: expected NAME: VALUE", param_hint="--header")
    return name.strip(), value.strip()


@app.command()
def ladder(
    call_id: Annotated[
        str | None, typer.Argument(help="The Call-ID of any of its legs; without one: the list.")
    ] = None,
    messages: Annotated[bool, typer.Option("--messages", help="The messages in full, too.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Print the SIP ladder of a call that is over, from the directory that `sip.ladders` names."""
    from sipbridge.config import load_config
    from sipbridge.ladder_files import list_ladders, read_ladder

    directory = load_config(config).sip.ladders
    if directory is None:
        raise ConfigError(f"{config}: sip.ladders names no directory, so no ladder is kept in files")
    if call_id is None:
        for ended, name in list_ladders(directory):
            print(f"{ended}  {name}")
        return
    text = read_ladder(directory, call_id)
    if text is None:
        raise SipbridgeError(f"{directory} has no ladder of {call_id}")
    heads, drawing, full = text.split("\n\n", 2)
    print(heads, drawing, *([full] if messages else []), sep="\n\n")


@app.command()
def providers() -> None:
    """List the providers: in which formats they hear and speak, the temperature, the first voices."""
    from sipbridge.providers import capabilities_of, registered_providers

    for slug in registered_providers():
        can = capabilities_of(slug)
        native = sorted(audio.encoding for audio in can.native_formats)
        up, down = can.input_format.rate // 1000, can.output_format.rate // 1000
        limits = can.takes_temperature
        facts = [
            f"{' '.join(native)} or PCM {up}/{down} kHz" if native else f"PCM {up}/{down} kHz",
            "no temperature" if limits is None else f"temperature {limits[0]:g} to {limits[1]:g}",
            f"voices {', '.join(can.voices[:3])}{', ...' if len(can.voices) > 3 else ''}"
            if can.voices
            else "any voice",
        ]
        print(f"{slug:18} {'; '.join(facts)}")


@app.command()
def simulate(
    wire: Annotated[str | None, typer.Argument(help="Whose wire format; without one: the list.")] = None,
    port: Annotated[int, typer.Option(help="0: any free one.")] = 8765,
    wav: Annotated[Path | None, typer.Option(help="What it says; a tone without one.")] = None,
    text: Annotated[str, typer.Option(help="What it claims to say.")] = "This is the simulated model speaking.",
    seconds: Annotated[float, typer.Option(help="How long the tone lasts.")] = 2.0,
    tone: Annotated[float, typer.Option(help="Its frequency in Hz.")] = 440.0,
    transcript: Annotated[list[str] | None, typer.Option(help="What it claims to hear, turn by turn.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option(help="REPLY:NAME {JSON}: call a tool in that reply; its first reply is 0.")
    ] = None,
    speed: Annotated[float, typer.Option(help="How much faster than realtime it generates; 0: at once.")] = 8.0,
    fault: Annotated[str | None, typer.Option(help="NAME or NAME:ARGUMENT, such as close:1011 or status:401.")] = None,
) -> None:
    """Be a realtime model behind a WebSocket, to try the gateway and its failures without a vendor."""
    from sipbridge.simulator.model import WIRES, ModelServer
    from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance

    if wire is None:
        print(*WIRES, sep="\n")
        return
    if wire not in WIRES:
        raise typer.BadParameter(f"{wire!r} cannot be simulated; there is: {', '.join(WIRES)}", param_hint="WIRE")
    tools = {}
    for entry in tool or ():
        number, _, rest = entry.partition(":")
        name, _, arguments = rest.strip().partition(" ")
        if not number.isdigit() or not name:
            raise typer.BadParameter(f"{entry!r}: expected REPLY:NAME {{JSON}}", param_hint="--tool")
        tools[int(number)] = ToolUse(name, arguments or "{}")
    try:
        broken = None if fault is None else Fault.parse(fault)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fault") from error
    script = Script(
        utterances=(Utterance(text, seconds, tone, wav),),
        transcripts=tuple(transcript) if transcript else Script().transcripts,
        tools=tools,
        speed=speed,
        fault=broken,
    )

    async def listen() -> None:
        async with ModelServer(script, wire=wire, port=port) as server:
            stop, _ = _signals()
            api = f", its API at {server.http_url}" if server.answers_http else ""
            print(f"{wire} is simulated at {server.url}{api}", flush=True)
            await stop.wait()

    run(listen())
