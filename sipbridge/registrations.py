"""Who we are elsewhere, and who others are here: registrations at PBXs, phones registered at us, digest for both.

Between the configuration and the SIP core: `start` registers where trunks say so and opens the registrar for
`sip.accounts`; `event` serves what the core asks and tells; `stop` says good-bye. The rule for requests:

* a REGISTER always has to prove whose it is;
* a trunk's sources are trusted, unless it has `auth`; then everything but OPTIONS, which only ask whether we are there,
  is challenged;
* while no trunk is configured, loopback is trusted, but not with the name of an account;
* everybody else is challenged, where there are accounts, or trunks with `auth` and without sources. Otherwise nobody
  asks: unknown sources get silence or 403.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from urllib.parse import quote

import structlog

from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.gateway_file.trunks import Trunk
from sipbridge.logins import Login, RegisterAt, Secret
from sipbridge.sip.admission import source_address
from sipbridge.sip.digest import Credentials
from sipbridge.sip.digest_server import DigestServer
from sipbridge.sip.events import (
    Authenticated,
    AuthenticationFailed,
    BindingsChanged,
    CredentialsNeeded,
    IdentityEvent,
    InviteReceived,
    Registered,
    RegistrationFailed,
    Unregistered,
)
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import NameAddr, Uri, readable
from sipbridge.sip.message import Request
from sipbridge.sip.registrar import Binding
from sipbridge.sip.registration import Account, Registration, RegistrationState
from sipbridge.sip.user_agent import UserAgent
from sipbridge.trunks import is_from

log = structlog.get_logger(__name__)

REALM = "sipbridge"
GOODBYE_SECONDS = 3.0
"""How long the answers to our de-registrations are waited for."""


class Registrations:
    def __init__(self, config: Config, user_agent: UserAgent, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._user_agent = user_agent
        self._clock = clock
        self._accounts = {account.username: account for account in config.sip.accounts}
        self._users = {trunk.auth.username: trunk for trunk in config.trunks if trunk.auth is not None}
        self.at: dict[str, Registration] = {}
        """Ours elsewhere, by the trunk's name: their state is for everybody to see."""
        self._all_ended = asyncio.Event()
        self._trunk_at = lru_cache(maxsize=4096)(self._find_trunk)

    # life

    def start(self) -> None:
        """Register where the trunks say so; answer challenges and registrations from now on."""
        config, now = self._config, self._clock()
        if self._accounts or self._users:
            secret = _reveal(config.sip.nonce_secret, "sip.nonce_secret") if config.sip.nonce_secret else None
            server = DigestServer(
                REALM,
                secret.encode() if secret else secrets.token_bytes(32),
                lambda: secrets.token_hex(8),
                algorithms=config.sip.digest_algorithms,
                epoch=time.time() - now,
            )
            self._user_agent.require_authentication(server, self.needs_proof)
            self._user_agent.serve_registrations()
        for trunk in config.trunks:
            if trunk.register_at is None:
                continue
            try:
                account = account_of(trunk.register_at)
            except ConfigError as error:
                log.error("not registered", trunk=trunk.name, reason=str(error))
            else:
                self.at[trunk.name] = self._user_agent.register(account, now)

    def withdraw(self) -> None:
        """De-register everywhere, so that PBXs send their calls elsewhere; those that are up go on."""
        now = self._clock()
        for registration in self.at.values():
            registration.stop(now)

    async def stop(self) -> None:
        """De-register everywhere; wait for the answers, but not for ever."""
        self.withdraw()
        self._note_end()
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._all_ended.wait()
        except TimeoutError:
            log.warning("not de-registered everywhere", trunks=[*self._trunks_left()])

    # who is who

    def needs_proof(self, request: Request, flow: Flow) -> bool:
        """The rule of the module's docstring."""
        if request.method == "REGISTER":
            return True
        source = flow.remote[0]
        trunk = self._trunk_at(source)
        if trunk is not None:
            return trunk.auth is not None and request.method != "OPTIONS"
        if not self._config.trunks and source_address(source).is_loopback:
            return request.method != "OPTIONS" and request.from_.uri.username in self._accounts
        return self._config.admits_strangers

    def may_call(self, flow: Flow, username: str | None) -> bool:
        """No stranger may (`UserAgent.may_call`)."""
        return self._trunk(flow, username) is not None

    def trunk_of(self, event: InviteReceived) -> str | None:
        """The name of the trunk that a call comes by; "" for one of a registered account, and for loopback while no
        trunk is configured; None for a stranger's. Of several trunks to one PBX it is the one registered as whom was
        dialled, else the first."""
        if event.username is None:
            dialled, source = event.request.request_uri.username, event.flow.remote[0]
            for trunk in self._config.trunks:
                at = trunk.register_at
                if (
                    at is not None
                    and dialled == (at.user or at.username)
                    and trunk.auth is None
                    and is_from(trunk, source)
                ):
                    return trunk.name
        return self._trunk(event.flow, event.username)

    def _trunk(self, flow: Flow, username: str | None) -> str | None:
        if username is not None:
            known = self._users.get(username)
            return "" if known is None else known.name
        source = flow.remote[0]
        trunk = self._trunk_at(source)
        if trunk is not None:
            return trunk.name
        return "" if not self._config.trunks and source_address(source).is_loopback else None

    def account_of(self, event: InviteReceived) -> str | None:
        """The account that a caller has proven to be."""
        return event.username if event.username in self._accounts else None

    def find(self, username: str) -> list[Binding]:
        """Where to call somebody who is registered here, best first."""
        registrar = self._user_agent.registrar
        return [] if registrar is None else registrar.find(username, self._clock())

    # events

    def event(self, event: IdentityEvent) -> None:
        match event:
            case CredentialsNeeded():
                self._user_agent.credentials_found(event, self._password(event), self._clock())
            case Authenticated(flow, username):
                log.debug("authenticated", source=flow.remote[0], username=username)
            case AuthenticationFailed(flow, username):
                log.warning("authentication failed", source=flow.remote[0], username=readable(username)[:64])
            case BindingsChanged(username, bindings):
                log.info("registered here", user=username, contacts=[str(b.contact.uri) for b in bindings])
            case Registered(registration, expires_s, changed):
                say = log.info if changed else log.debug
                say("registered", trunk=self._name(registration), expires=expires_s, contact=str(registration.contact))
            case RegistrationFailed(registration, status, reason, retry_in):
                log.warning(
                    "registration failed",
                    trunk=self._name(registration),
                    status=status,
                    reason=readable(reason),
                    retry_in=round(retry_in, 1),
                )
            case Unregistered(registration, status):
                log.info("de-registered", trunk=self._name(registration), status=status)
                self._note_end()

    # private

    def _password(self, needed: CredentialsNeeded) -> str | None:
        """None: no such user here. Both tables are asked in any case, so that nothing shows which one knows a name."""
        account, trunk = self._accounts.get(needed.username), self._users.get(needed.username)
        login: Login | None = account
        if trunk is not None and (not trunk.sources or is_from(trunk, needed.flow.remote[0])):
            login = trunk.auth
        if login is None:
            return None
        try:
            return login.password.reveal()
        except ConfigError as error:
            log.error("nobody can be checked", username=login.username, reason=str(error))
            return None

    def _find_trunk(self, address: str) -> Trunk | None:
        return next((trunk for trunk in self._config.trunks if is_from(trunk, address)), None)

    def _name(self, registration: Registration) -> str | None:
        return next((name for name, known in self.at.items() if known is registration), None)

    def _trunks_left(self) -> Iterator[str]:
        return (name for name, known in self.at.items() if known.state is not RegistrationState.ENDED)

    def _note_end(self) -> None:
        if next(self._trunks_left(), None) is None:
            self._all_ended.set()


def account_of(section: RegisterAt) -> Account:
    """What the core needs to register. Raises ConfigError where the password cannot be had."""
    server = Uri.parse(section.server)
    user = quote(section.user or section.username, safe="-_.!~*'()&=+$,;?/")
    return Account(
        server=server,
        credentials=Credentials(section.username, section.password.reveal()),
        aor=NameAddr("", Uri("sips" if server.scheme == "sips" else "sip", user, server.host)),
        contact_user=user,
        expires_s=section.expires,
    )


def _reveal(secret: Secret, place: str) -> str | None:
    try:
        return secret.reveal()
    except ConfigError as error:
        log.error("a secret of this run only is used", key=place, reason=str(error))
        return None
