"""Parts: what one conversation is made of, put together. Who needs whom is said here and nowhere else."""

from __future__ import annotations

from sipbridge.agent import NewAgent
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.announcements import Announcements
from sipbridge.conversation.answering import Answering
from sipbridge.conversation.barge_in import BargeIn
from sipbridge.conversation.bridge import SecondLeg
from sipbridge.conversation.call_tools import CallTools
from sipbridge.conversation.confirmation import Confirmation
from sipbridge.conversation.context import CallContext, Observer
from sipbridge.conversation.digits import Digits
from sipbridge.conversation.failure import Failure
from sipbridge.conversation.holding import Holding
from sipbridge.conversation.journalist import Journalist
from sipbridge.conversation.keypad import Keypad
from sipbridge.conversation.limits import Limits
from sipbridge.conversation.phrases import Phrases
from sipbridge.conversation.privacy import Privacy
from sipbridge.conversation.switching import Switching
from sipbridge.conversation.transfers import Transfers
from sipbridge.conversation.watch import Watch
from sipbridge.prices import Prices
from sipbridge.recordings import StartRecording
from sipbridge.tenant_gate import Allowance
from sipbridge.tools import toolbox_for
from sipbridge.tools.services import ToolServices
from sipbridge.tools.switch_agent import declared_to


class Parts:
    """`answering` and `agents` are awaited by `CallSession`; all the rest is told what happens."""

    def __init__(
        self,
        call: CallContext,
        *,
        new_agent: NewAgent,
        second_leg: SecondLeg,
        max_seconds: float,
        record: StartRecording | None,
        prices: Prices,
        tool_services: ToolServices | None,
        allowance: Allowance | None,
    ) -> None:
        """As in `CallSession`."""
        config = call.tenant.config
        toolbox = toolbox_for(
            config.tools,
            config.agents,
            timeout_seconds=config.deadlines.tool_seconds,
            tenant=call.tenant.id,
            services=tool_services,
        )
        self._call = call
        self._record = record
        self._toolbox = toolbox
        agents = Agents(call, new_agent, lambda name, agent: declared_to(name, agent, config.agents, toolbox))
        self.agents = agents
        self.keypad = Keypad(self._keys_pressed if config.keys == "text" else None)
        self.privacy = Privacy()
        self.digits = Digits(call, self.keypad, self.privacy)
        self.holding = Holding(call)
        self.confirmation = Confirmation(call, agents)
        self.transfers = Transfers(call, agents, self.keypad, second_leg)
        switching = Switching(call, agents, self.transfers)
        watch = Watch(call, agents)
        self.failure = Failure(call, agents, self.transfers, switching, watch)
        self.journalist = Journalist(call, agents)
        self.keypad.on_press = lambda: None if self.privacy.lasts else self.journalist.note("key", "*")
        self.barge_in = BargeIn(call, agents, watch, self.journalist)
        self.tools = CallTools(
            call, agents, toolbox, self.transfers, self.digits, self.holding, self.confirmation, switching
        )
        self.limits = Limits(
            call,
            agents,
            Announcements(call, agents, self.transfers),
            max_seconds=max_seconds,
            prices=prices,
            busy=lambda: self.tools.busy or watch.owes,
            allowance=allowance,
        )
        self.answering = Answering(call, agents, self.failure, self._answered)
        self.observers: tuple[Observer, ...] = (
            self.journalist,
            self.barge_in,
            self.failure,
            self.limits,
            self.tools.waiting,
            self.holding,
            self.confirmation,
            Phrases(call, agents, self.transfers, self.confirmation, busy=lambda: self.tools.busy),
            switching,
        )
        """In the order in which they are told of the agent's events."""

    def _answered(self) -> None:
        """There is sound both ways, whoever may be heard first."""
        self.limits.answered()
        self.agents.listen()
        stream, codec = self._call.stream, self._call.legs.current.codec
        if self._record is not None and stream is not None and codec is not None:
            self.privacy.recording = self._record(codec)
            stream.tap(self.privacy.recording)

    def _keys_pressed(self, keys: str) -> None:
        self.agents.tell(f"The caller pressed {' '.join(keys)}.")

    def close(self) -> None:
        """The call is over: no timer rings any more. The agents are closed when the legs are."""
        self.keypad.close()
        self.journalist.close()
        self.barge_in.close()
        self.failure.close()
        self.digits.close()
        self._toolbox.close()
