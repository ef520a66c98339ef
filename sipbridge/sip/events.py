"""What the SIP core tells: one closed union, `SipEvent`, of frozen dataclasses.

The events of a call carry it. `InviteReceived` is the first of an incoming call, `CallEnded` the last of any call, and
comes exactly once; after it the call takes no command and says nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from sipbridge.sip.dns_cache import DnsNeeded
from sipbridge.sip.flow import Flow, FlowNeeded
from sipbridge.sip.headers import NameAddr
from sipbridge.sip.message import Request, Response

if TYPE_CHECKING:
    from sipbridge.sip.info import KeyPress
    from sipbridge.sip.invite import Invite
    from sipbridge.sip.registrar import Binding
    from sipbridge.sip.registration import Registration
    from sipbridge.sip.replaces import Replaces
    from sipbridge.sip.uac import OutgoingInvite
    from sipbridge.sip.uas import IncomingInvite


class EndCause(Enum):
    """Why a call ended, as seen from here."""

    REMOTE_BYE = "remote_bye"
    LOCAL_BYE = "local_bye"
    CANCELLED = "cancelled"
    """Given up by the caller, us or them, before it was answered."""
    REJECTED = "rejected"
    """Refused by the peer; `status` says how."""
    DECLINED = "declined"
    """Refused by us."""
    ACK_TIMEOUT = "ack_timeout"
    """Our 200 was never acknowledged (§13.3.1.4), or our reliable 1xx (RFC 3262 §3)."""
    TIMEOUT = "timeout"
    """The peer did not answer."""
    LOST = "lost"
    """A request inside the call was answered 481, or not at all (408): the peer has forgotten it (RFC 5057)."""
    SESSION_EXPIRED = "session_expired"
    """Nobody refreshed the session (RFC 4028 §10)."""
    FLOW_FAILED = "flow_failed"
    """The peer could not be reached: no address, no connection."""


@dataclass(frozen=True, slots=True)
class InviteReceived:
    """A new call. 100 has been sent; `ring`, `answer` or `reject` it."""

    call: IncomingInvite
    request: Request
    offer: bytes | None
    """The session description; None: our answer is to make the offer."""
    flow: Flow
    username: str | None = None
    """Who the caller has proven to be, by digest."""
    replaces: Invite | None = None
    """The call whose place this one is to take (RFC 3891): answer this one, then hang that one up."""


@dataclass(frozen=True, slots=True)
class ReinviteReceived:
    """The peer wants to change the session: `accept_reinvite` or `reject_reinvite`. It asks by re-INVITE or, before
    the call is answered, too, by UPDATE or by PRACK."""

    call: Invite
    request: Request
    offer: bytes | None
    """None: our answer is to make the offer (re-INVITE only)."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The ACK of a 200 that we gave, to the first INVITE or to a re-INVITE."""

    call: Invite
    body: bytes
    """The answer, where the 200 carried the offer; empty otherwise."""


@dataclass(frozen=True, slots=True)
class SessionAnswered:
    """The peer agreed to a change of ours (`reinvite`, `update`), or answered the offer of a 183 of ours in its PRACK.

    It also comes unasked, where the answer to a refresh of the session differs from what was agreed on before.
    """

    call: Invite
    answer: bytes
    """Its session description; what it answers is `call.dialog.exchange.local`. Empty where it gave none."""
    needs_answer: bool = False
    """We asked for an offer, and this is it: `acknowledge` answers it."""


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """A change of ours came to nothing, and the session is as it was.

    491: the session changed while the change had to wait, and its offer no longer fits; make another.
    """

    call: Invite
    status: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A provisional response other than 100. Told once, however often it came, if it is a reliable one (RFC 3262).

    An INVITE may ring at several places: `response.to.tag` tells them apart. 199 says that one of them has given up.
    """

    call: OutgoingInvite
    response: Response
    answer: bytes = b""
    """The session description in it, where it belongs to the session: early media."""
    needs_answer: bool = False
    """Our INVITE had no offer, and this is one, in a reliable response: `acknowledge` answers it in the PRACK."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The call was answered, and the ACK has been sent."""

    call: OutgoingInvite
    response: Response
    answer: bytes
    """What the peer says of its session: in the 200 or, where that has nothing, or nothing that counts any more, in a
    provisional response before it. Empty where it never did, or the session was changed since by UPDATE."""
    needs_answer: bool = False
    """Our INVITE had no offer, and this is the peer's: `acknowledge` answers it, and only then is the ACK sent."""


@dataclass(frozen=True, slots=True)
class ReferAccepted:
    """The peer has taken on our REFER; `ReferProgress` follows."""

    call: Invite
    subscribed: bool = True
    """False: nothing more will be told of it (RFC 4488)."""


@dataclass(frozen=True, slots=True)
class ReferProgress:
    """What became of the call that we asked the peer to make (RFC 3515 §2.4.5)."""

    call: Invite
    status: int
    reason: str
    final: bool
    """Nothing more will come: a final status, or the end of the subscription. With a status below 200 the outcome
    stays unknown."""


@dataclass(frozen=True, slots=True)
class ReferFailed:
    """The peer refused our REFER, or did not answer it (408)."""

    call: Invite
    status: int
    retry_after: int | None = None
    """Seconds after which it may be tried again, if the peer says so."""


@dataclass(frozen=True, slots=True)
class ReferReceived:
    """The peer asks us to call somebody, and the policy permits it: `accept_refer` or `reject_refer`, within seconds.

    What is called, and how, is for the owner of the call to decide by its own rules.
    """

    call: Invite
    refer_to: NameAddr
    """Without header parameters; escapes and separators are as they came (`number.Number` reads the number)."""
    replaces: Replaces | None
    """The new call is to take the place of this one, by an INVITE with `replaces.headers`."""
    referred_by: NameAddr | None
    """Who is said to have asked for it; unverified."""
    request: Request


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """A key was pressed, told by INFO, which has been answered."""

    call: Invite
    content_type: str
    body: bytes
    key: KeyPress | None
    """None: it is none that can be heard (hook flash)."""


@dataclass(frozen=True, slots=True)
class KeyTold:
    """What became of one key of `Invite.send_key`: the answer to its INFO, or why it was not sent."""

    call: Invite
    status: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last event of a call."""

    call: Invite
    cause: EndCause
    status: int | None
    """The final response that ended it, if one did."""
    reason: str
    """For people: the reason phrase, or what happened."""
    reason_header: str | None = None
    """The Reason header of the peer's BYE, CANCEL or response (RFC 3326), as it came."""
    contacts: tuple[NameAddr, ...] = ()
    """Where else to try, best first, where the call was redirected (3xx). Nobody follows them here: to call whom a
    stranger names is a policy's affair."""


@dataclass(frozen=True, slots=True, eq=False)
class CredentialsNeeded:
    """Somebody claims to be `username`: answer with `UserAgent.credentials_found`. Whoever looks the password up must
    not let it be seen, by what he does or how long he takes, whether there is such a user."""

    username: str
    realm: str
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A request by this flow has proven to come from `username`."""

    flow: Flow
    username: str


@dataclass(frozen=True, slots=True)
class AuthenticationFailed:
    """Wrong password or unknown user, with a nonce that was given to this very source. Who guesses is to be blocked."""

    flow: Flow
    username: str


@dataclass(frozen=True, slots=True)
class BindingsChanged:
    """A user has registered here, at another address than before, or no more."""

    username: str
    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """We are registered, for the first time or again."""

    registration: Registration
    expires_s: int
    """What was granted."""
    changed: bool
    """We were not, or with another address; otherwise it is a refresh."""


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """It is tried again in `retry_in` seconds."""

    registration: Registration
    status: int
    """408: no answer; 503, too: nobody could be reached."""
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The last event of a registration, after `stop()`."""

    registration: Registration
    status: int | None
    """Of the answer to the de-registration; None where there was nothing to remove."""


IdentityEvent: TypeAlias = (
    CredentialsNeeded
    | Authenticated
    | AuthenticationFailed
    | BindingsChanged
    | Registered
    | RegistrationFailed
    | Unregistered
)
"""Of who is who, here and elsewhere, rather than of a call."""

SipEvent: TypeAlias = (
    InviteReceived
    | ReinviteReceived
    | Acknowledged
    | SessionAnswered
    | SessionRefused
    | Progress
    | Answered
    | ReferAccepted
    | ReferProgress
    | ReferFailed
    | ReferReceived
    | InfoReceived
    | KeyTold
    | CallEnded
    | IdentityEvent
    | FlowNeeded
    | DnsNeeded
)
