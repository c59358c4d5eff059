"""Which wave a request is for, where several are fielded at once: by what was dialled or texted to.

    a hop, a session's end   by its service code
    a text                   by short code and keyword; without one, the wave in which this respondent
                             wrote last, else dialled last, else the first that is open

Waves that share a code are not open at the same time (`flows/waves.py`): it is then the one that is open,
and a session that the change finds under way stays where it began. Each wave has a dialogue of its own,
so interviews do not mix; a respondent has the same pseudonym in all of them, as opt-outs hold for all.
"""

from collections.abc import Sequence

from flows.engine import Interview, Screen
from flows.reading import clean_text, is_keyword
from gateway.dialogue import Channel, Dialogue
from gateway.messages import DeliveryReport, Hop, InboundSms, OptOut, SessionEnded
from gateway.texting import Texting
from storage.live import Live
from storage.sealing import Seal


class Switchboard:
    """All waves of a gateway. `dialogues`: one a wave, on one live store. `seal` None: no texting."""

    def __init__(self, dialogues: Sequence[Dialogue], seal: Seal | None = None):
        self.dialogues = tuple(dialogues)
        self._by_wave = {d.wave.id: d for d in self.dialogues}
        self._alone = self.dialogues[0] if len(self.dialogues) == 1 else None
        self._by_code: dict[str, list[Dialogue]] = {}
        for dialogue in self.dialogues:
            for code in dialogue.wave.codes:
                self._by_code.setdefault(code, []).append(dialogue)
        self._texting = [Texting(d, seal) for d in self.dialogues] if seal else []
        self._texted = [t for t in self._texting if t.open]

    @property
    def texted(self) -> bool:
        """Whether any wave can be texted to."""
        return bool(self._texted)

    # ---- dialling

    async def hop(self, channel: Channel, hop: Hop) -> Screen:
        """The screen that answers a hop. Raises Unavailable; nothing is committed then."""
        dialogue = self._alone or await self._of_session(hop)
        if dialogue is None:
            return self.phrase("wave_closed")
        return await dialogue.hop(channel, hop)

    async def session_ended(self, channel: Channel, notice: SessionEnded) -> None:
        """Notes a session's end; of a code that is not served, nothing. Raises Unavailable."""
        dialogue = self._alone or await self._of_session(notice)
        if dialogue is not None:
            await dialogue.session_ended(channel, notice)

    def phrase(self, name: str, interview: Interview | None = None, code: str = "") -> Screen:
        """A last screen outside any interview: in the words of the interview's wave, else of the code's."""
        known = self._by_wave.get(interview.wave) if interview else None
        return (known or self._by_code.get(code, self.dialogues)[0]).phrase(name, interview)

    async def _of_session(self, request: Hop | SessionEnded) -> Dialogue | None:
        """The dialogue that this request of a session belongs to; None: its code is nobody's."""
        there = self._by_code.get(request.service_code)
        if there is None or len(there) == 1:
            return there[0] if there else None
        now = current(there)
        begins = isinstance(request, Hop) and not request.text and request.sequence < 2
        for other in there:
            if other is not now and not begins:  # one read more, where codes are shared
                live, _ = await other.live.read(other.wave.id, other.pseudonyms.of(request.msisdn))
                if live is not None and live.session == request.session:
                    return other
        return now

    # ---- texting

    async def text(self, aggregator: str, message: InboundSms) -> None:
        """Takes a message in, once. Raises Unavailable; then it must be sent again."""
        # A sender that is a name gets its texts at some number of the aggregator's.
        there = [t for t in self._texted if t.dialogue.wave.sms_sender == message.to] or self._texted
        found = there[0] if len(there) == 1 else await self._of_text(there, message)
        await found.text(aggregator, message)

    async def _of_text(self, there: Sequence[Texting], message: InboundSms) -> Texting:
        words = clean_text(message.text)
        by_wave = {t.dialogue.wave.id: t for t in there}
        named = [t.dialogue for t in there if is_keyword(t.dialogue.wave, words)]
        if named:
            return by_wave[current(named).wave.id]
        latest: tuple[bool, int, str] = (False, -1, current([t.dialogue for t in there]).wave.id)
        for dialogue in (t.dialogue for t in there):
            live = await _known(dialogue, message.msisdn)
            if live is not None:
                interview = live.interview
                latest = max(latest, (interview.mode == "sms", interview.last_at, dialogue.wave.id))
        return by_wave[latest[2]]

    async def opted_out(self, aggregator: str, notice: OptOut) -> None:
        """Somebody wants no more messages, of whichever wave. Raises Unavailable."""
        await self._texting[0].opted_out(aggregator, notice)

    async def delivered(self, aggregator: str, report: DeliveryReport) -> None:
        """Notes what became of a message that we sent. Raises Unavailable."""
        await self._texting[0].delivered(aggregator, report)


def current(there: Sequence[Dialogue]) -> Dialogue:
    """Of waves that share a code, the one that is open; else the latest that has been; else the next."""
    now = there[0].clock()
    for dialogue in there:
        if dialogue.open_at(now):
            return dialogue
    begun = [d for d in there if d.opens_ms <= now]
    return max(begun, key=lambda d: d.opens_ms) if begun else min(there, key=lambda d: d.opens_ms)


async def _known(dialogue: Dialogue, msisdn: str) -> Live | None:
    """The respondent's live record in a wave, or what the record rebuilds of it."""
    respondent = dialogue.pseudonyms.of(msisdn)
    live, born = await dialogue.live.read(dialogue.wave.id, respondent)
    if live is not None:
        return live
    if born != dialogue.home:
        born = await dialogue.settle(born)
    return await dialogue.recorded(respondent, born)
