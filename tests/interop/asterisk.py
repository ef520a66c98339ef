"""An Asterisk of the test's own: its configuration, its recordings and its sockets are in one folder.

Found by running 22.10: the section of asterisk.conf must be `[directories]` without Debian's `(!)`, which makes it a
template; every file that is missing costs warnings, some of them modules; `-f` keeps it in the foreground, its console
messages come with `-v`; "core restart" starts argv[0] again, which is not how it was started here, so a restart is an
end and a new beginning.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.interop.ami import Ami
from tests.interop.peers import Program, free_port, require
from tests.interop.sound import Samples, read_wav

MODULES = """
app_bridgewait app_dial app_echo app_mixmonitor app_originate app_playback app_playtones app_read app_record
app_senddtmf app_stack app_transfer app_userevent app_verbose app_waitforsilence
bridge_builtin_features bridge_holding bridge_native_rtp bridge_simple bridge_softmix
chan_pjsip codec_alaw codec_ulaw codec_g722 codec_opus_open_source codec_resample codec_a_mu
format_pcm format_wav res_format_attr_opus
func_callerid func_channel func_global func_hangupcause func_logic func_pjsip_endpoint func_strings func_timeout
pbx_config res_crypto res_musiconhold res_pjproject
res_pjsip res_pjsip_acl res_pjsip_authenticator_digest res_pjsip_caller_id res_pjsip_diversion
res_pjsip_dlg_options res_pjsip_dtmf_info res_pjsip_endpoint_identifier_ip res_pjsip_endpoint_identifier_user
res_pjsip_header_funcs res_pjsip_logger res_pjsip_nat res_pjsip_outbound_authenticator_digest
res_pjsip_outbound_registration res_pjsip_path res_pjsip_pubsub res_pjsip_refer res_pjsip_registrar res_pjsip_rfc3326
res_pjsip_sdp_rtp res_pjsip_session res_rtp_asterisk res_sorcery_astdb res_sorcery_config res_sorcery_memory res_srtp
res_timing_timerfd
"""
_SECRET = "nobody-else-hears-this"


class Asterisk:
    """Use as a context manager. `configuration`: file name -> text, such as pjsip.conf and extensions.conf."""

    def __init__(self, folder: Path, address: str, configuration: Mapping[str, str]) -> None:
        self.address = address
        self._program_path = require("asterisk")
        self._etc = folder / "etc"
        self.recordings = folder / "recordings"
        for directory in (self._etc, self.recordings, *(folder / name for name in ("run", "log", "lib", "spool"))):
            directory.mkdir(parents=True, exist_ok=True)
        self._manager_port = free_port(address, socket.SOCK_STREAM)
        for name, text in {**self._common(folder), **configuration}.items():
            (self._etc / name).write_text(text)
        self._start()

    def _start(self) -> None:
        self._read_up_to = 0
        self.program = Program([self._program_path, "-f", "-vvvv", "-n", "-C", str(self._etc / "asterisk.conf")])
        try:
            self.program.wait_for("Asterisk Ready")
            self.ami = Ami(self.address, self._manager_port, user="test", secret=_SECRET)
            self.ami.command("pjsip set logger on")
        except BaseException:
            self.program.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """What an operator does: calls are hung up. `restart()` begins anew."""
        self.ami.close()
        self.program.stop()

    def kill(self) -> None:
        """What a power cut does: nobody is told."""
        self.program.process.kill()
        self.ami.close()
        self.program.stop()

    def restart(self) -> None:
        """Begin again, with the same configuration."""
        self._start()

    def call(
        self, channel: str, *, context: str, extension: str = "s", variables: Mapping[str, str] | None = None
    ) -> None:
        """Call `channel`, such as PJSIP/700@sipbridge, and run that extension with it once it answers."""
        self.ami.action(
            "Originate",
            Channel=channel,
            Context=context,
            Exten=extension,
            Priority="1",
            Async="true",
            Timeout="30000",
            variables={"RECORDINGS": str(self.recordings), **(variables or {})},
        )

    def wait_for_message(self, start: str, inside: str = "", timeout: float = 15) -> str:
        """The next SIP message that nobody has waited for yet whose first line begins with the pattern `start` and that
        has a line with the pattern `inside`. The ones before it are passed over."""
        pattern = re.compile(rf"^{start}.*\n(?:(?!<---).*\n)*?(?:.*{inside}.*\n)(?:(?!<---).*\n)*", re.MULTILINE)
        found: re.Match[str] | None = None

        def seen() -> bool:
            nonlocal found
            found = pattern.search(self.program.output, self._read_up_to)
            return found is not None

        self.program.wait_until(seen, timeout, f"message {pattern.pattern}")
        assert found is not None
        self._read_up_to = found.end()
        return found[0]

    def wait_for_invite(self, to: str, inside: str) -> str:
        """The next one that Asterisk sends there (HOST:PORT)."""
        return self.wait_for_message(rf"INVITE sip:\S*{to}\S* SIP/2.0", inside)

    def heard(self, name: str = "heard", *, wideband: bool = False) -> Samples:
        """A recording of this call, at 16 kHz where it is `wideband`. Whole when the call is over."""
        if wideband:
            return read_wav(self.recordings / f"{name}.wav16", 16000)
        return read_wav(self.recordings / f"{name}.wav")

    def has_module(self, name: str) -> bool:
        """Loaded and running. Builds differ in what they bring."""
        return "Running" in self.ami.command(f"module show like {name}")

    def forget(self) -> None:
        """Earlier calls are nobody's business any more."""
        self.ami.forget_events()
        self._read_up_to = len(self.program.output)
        for file in self.recordings.iterdir():
            file.unlink()

    def _common(self, folder: Path) -> dict[str, str]:
        modules = _modules(self._program_path)
        directories = {
            "astetcdir": self._etc,
            "astmoddir": modules,
            "astvarlibdir": folder / "lib",
            "astdbdir": folder / "lib",
            "astkeydir": folder / "lib",
            # Its documentation in XML: without it no option is known, and it ends at once.
            "astdatadir": modules.parents[3] / "share/asterisk",
            "astagidir": folder / "lib",
            "astspooldir": folder / "spool",
            "astrundir": folder / "run",
            "astlogdir": folder / "log",
        }
        return {
            "asterisk.conf": _section("directories", directories.items()) + "[options]\nnocolor=yes\n",
            "modules.conf": "[modules]\nautoload=no\n" + "".join(f"load={name}.so\n" for name in MODULES.split()),
            "logger.conf": "[logfiles]\nconsole=notice,warning,error,verbose\n",
            "manager.conf": _section(
                "general",
                {"enabled": "yes", "bindaddr": self.address, "port": self._manager_port, "webenabled": "no"}.items(),
            )
            + _section("test", {"secret": _SECRET, "read": "all", "write": "all"}.items()),
            # The kernel gives ports away from 32768 on; the gateway under test has 30000 and above.
            "rtp.conf": "[general]\nrtpstart=21000\nrtpend=21398\n",
            **{name: "[general]\n" for name in ("cdr.conf", "cel.conf", "features.conf", "stasis.conf", "acl.conf")},
            **{name: "[general]\n" for name in ("indications.conf", "udptl.conf", "ccss.conf", "musiconhold.conf")},
            "pjproject.conf": "",
        }


def _section(name: str, values: Iterable[tuple[str, object]]) -> str:
    return f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values) + "\n"


def _modules(program: str) -> Path:
    """The folder of modules that belongs to this program: /usr/lib/TRIPLET/asterisk/modules, in the lab or not."""
    for usr in (Path(program).parents[1] / "asterisk/usr", Path("/usr")):
        folder = next(usr.glob("lib/*/asterisk/modules"), usr)
        if folder != usr:
            return folder
    raise AssertionError(f"the modules of {program} were not found")
