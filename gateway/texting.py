"""One text message, from the aggregator's request to the stream: load, read, step, commit.

    stop, help, results their words, see flows/reading.py: answered once, and never an answer
    keyword, first text  a dial: the interview begins, or goes on at the same item
    anything else       the answer to what the last text asked; or nothing, see `read_text`

Nothing is sent from here. What there is to say stands in the stream's entry (`sends`), with the number
sealed, and workers send it: so one script makes the step, the reply and the memory of the message's id
one thing, and the aggregator, which repeats a message until it hears 200, can repeat it for 12 hours.
A conversation by SMS is a session to the record: `sms:` and the id of the message that began it.

While the wave is closed a text asks for no question either. By SMS nobody hangs up, so an interview that
the close finds under way goes on for as long as no answer takes longer than half an hour.
"""

import logging
from dataclasses import replace

from flows.engine import Dialled, Event, Replied, begins_anew, dump_effect, lapsed
from flows.interview import Interview
from flows.reading import clean_text, is_keyword, read_text
from gateway.dialogue import Dialogue
from gateway.messages import DeliveryReport, InboundSms, OptOut
from storage.live import Live, Standing, compact, hop_entry
from storage.resp import Unavailable
from storage.sealing import Seal

log = logging.getLogger("dial16.texting")

_RACES = 4  # lost races before the aggregator is to send the message again
_SESSION = "sms:"
#: As long as the slowest networks keep a text back; after that who wrote has put the phone away.
_UNDER_WAY_MS = 30 * 60_000
_ASKED = ("language", "item", "why", "stuck", "pause")  # stages of the interview itself


class Texting:
    """The text message's shell around the engine. Holds no state of a respondent."""

    def __init__(self, dialogue: Dialogue, seal: Seal):
        self.dialogue = dialogue
        self._seal = seal
        self._live = dialogue.live

    @property
    def open(self) -> bool:
        """Whether this wave can be texted to."""
        return bool(self.dialogue.wave.sms_sender)

    async def text(self, aggregator: str, message: InboundSms) -> None:
        """Takes a message in, once. Raises Unavailable; then it must be sent again."""
        dialogue = self.dialogue
        wave = dialogue.wave
        respondent = dialogue.pseudonyms.of(message.msisdn)
        for _ in range(_RACES):
            found = await self._live.read_text(wave.id, respondent, aggregator, message.id)
            if found.seen:
                return
            born = found.born
            if born != dialogue.home:
                born = await dialogue.settle(born)
            at = dialogue.clock()
            live = found.live or await dialogue.recorded(respondent, born)
            interview = live.interview if live else None
            out = bool(found.opted_out)
            lost = not out and found.live is None and await dialogue.recorded_opt_out(respondent, born)
            out |= lost
            what = read_text(
                wave, interview, message.text, opted_out=out,
                lapsed=interview is not None and lapsed(wave, interview, at),
            )  # fmt: skip
            if what == "reply" and found.live is None:
                what = "dial"  # rebuilt from the record, which may not know what was asked last
            if what in ("dial", "reply", "help", "results") and not message.msisdn.startswith(wave.countries):
                what = "none"
            if what in ("dial", "reply") and not dialogue.open_at(at):
                what = await self._while_closed(what, message, live, at)
            if what in ("dial", "reply"):
                back = {"opted_in": True} if out else {}
                after, entry = await self._hop(aggregator, message, respondent, live, what, at, back)
                opted_out = "0" if back else ""
                tally = await dialogue.tally(live, after)
            else:
                after, opted_out, tally = None, str(at) if lost else "", None
                if what == "stop" and not out:
                    after, opted_out = _closed(found.live), str(at)
                shown = await dialogue.results_by_text(interview) if what == "results" and not out else ""
                entry = self._command(aggregator, message, respondent, found, what, at, out, shown)
            if await self._live.commit_text(
                wave.id, respondent, aggregator, message.id, found,
                live=after, opted_out=opted_out, entry=entry, tally=tally,
            ):  # fmt: skip
                return
        raise Unavailable("live store: too many messages of one respondent at once")

    async def _while_closed(self, what: str, message: InboundSms, live: Live | None, at: int) -> str:
        """What a dial or a reply is taken as while the wave is closed. Only a keyword is told that it is."""
        if what == "reply" and live is not None and _under_way(live.interview, at):
            return "reply"
        if await self.dialogue.has_a_say(live):
            return "dial"
        if not is_keyword(self.dialogue.wave, clean_text(message.text)):
            return "none"
        return "dial" if await self.dialogue.heard(live) else "closed"

    async def _hop(
        self,
        aggregator: str,
        message: InboundSms,
        respondent: str,
        live: Live | None,
        what: str,
        at: int,
        back: dict[str, bool],
    ) -> tuple[Live, bytes]:
        """The engine's step: the record to store, and the stream's entry with the reply in it.

        `back`: what the entry says of somebody who had opted out and texts the keyword."""
        dialogue = self.dialogue
        wave = dialogue.wave  # what begins anew begins on the instrument of today
        event: Event = Replied(at, message.text)
        if what == "dial" or live is None:
            event = Dialled(
                at=at,
                id=dialogue.pseudonyms.interview_id(f"{respondent} {at}", message.id),
                seed=dialogue.pseudonyms.seed(respondent, wave.id),
                mode="sms",
            )
        if live and (isinstance(event, Replied) or not begins_anew(wave, live.interview, at)):
            wave = await dialogue.wave_on(live.interview.instrument)
        before = live.interview if live else None
        taken = await dialogue.counting.step(dialogue.at(wave, at), before, event)
        new = live is None or isinstance(event, Dialled)
        after = Live(
            version=(live.version if live else 0) + 1,
            session=_SESSION + message.id if live is None or new else live.session,
            seen=0,
            digest="",
            hop=1 if live is None or new else live.hop + 1,
            over=taken.screen.ends,
            past=live.past_with(live.session) if live and new else live.past if live else "",
            screen=taken.screen.text,
            ends=taken.screen.ends,
            interview=taken.interview,
        )
        opened = None
        if new:
            opened = {
                "aggregator": aggregator,
                "network_code": message.network_code,
                "service_code": message.to,
                "extension": "",
            }
        effects = [dump_effect(e) for e in taken.effects]
        return after, hop_entry(
            after, respondent, at, effects, opened,
            sends=[{"kind": "reply", "text": taken.screen.text}],
            **self._to(aggregator, message, respondent), **back,
        )  # fmt: skip

    def _command(
        self,
        aggregator: str,
        message: InboundSms,
        respondent: str,
        found: Standing,
        what: str,
        at: int,
        opted_out: bool,
        shown: str,
    ) -> bytes:
        """The entry of a message that is no step of an interview. An opt-out is confirmed once, and
        nothing follows it, not even help. `shown`: the results, where they were asked for."""
        dialogue = self.dialogue
        words = {"help": "help", "stop": "opted_out", "closed": "wave_closed"}
        say = words.get(what, "") if not opted_out else ""
        entry: dict[str, object] = {
            "kind": "text_command",
            "respondent": respondent,
            "at": at,
            "wave": dialogue.wave.id,
            "what": what,
            "message_id": message.id,
            "sends": [],
        }
        if say or shown:
            text = shown or dialogue.phrase(say, found.live.interview if found.live else None).text
            entry["sends"] = [{"kind": "confirmation" if what == "stop" else "reply", "text": text}]
            entry |= self._to(aggregator, message, respondent)
        return compact(entry)

    def _to(self, aggregator: str, message: InboundSms, respondent: str) -> dict[str, str]:
        """Where an answer to a message goes, for the entry."""
        return {
            "sealed": self._seal.seal(message.msisdn, respondent),
            "key_id": self._seal.key_id,
            "sender": message.to,
            "aggregator": aggregator,
            "network_code": message.network_code,
        }

    # ---- notices

    async def opted_out(self, aggregator: str, notice: OptOut) -> None:
        """The aggregator says that somebody wants no more messages; it has confirmed that itself."""
        dialogue = self.dialogue
        respondent = dialogue.pseudonyms.of(notice.msisdn)
        at = dialogue.clock()
        entry = {"kind": "opted_out", "respondent": respondent, "at": at, "aggregator": aggregator}
        for _ in range(_RACES):
            found = await self._live.read_text(dialogue.wave.id, respondent, aggregator, "")
            if found.opted_out:
                return
            if await self._live.commit_text(
                dialogue.wave.id, respondent, aggregator, "", found,
                live=_closed(found.live), opted_out=str(at), entry=compact(entry),
            ):  # fmt: skip
                return
        raise Unavailable("live store: too many messages of one respondent at once")

    async def delivered(self, aggregator: str, report: DeliveryReport) -> None:
        """Notes what became of a message that we sent. The recorder tells which, and whether it is news."""
        entry = {
            "kind": "delivery_report",
            "respondent": self.dialogue.pseudonyms.of(report.msisdn) if report.msisdn else None,
            "at": self.dialogue.clock(),
            "aggregator": aggregator,
            "message_id": report.message_id,
            "status": report.status,
            "failure_reason": report.failure_reason,
            "network_code": report.network_code,
        }
        await self._live.append(compact(entry))


def _closed(live: Live | None) -> Live | None:
    """The live record after an opt-out: nothing more is asked by SMS. A USSD session may go on."""
    if live is None:
        return None
    by_sms = live.session.startswith(_SESSION)
    return replace(live, version=live.version + 1, over=live.over or by_sms, ends=live.ends or by_sms)


def _under_way(interview: Interview, at: int) -> bool:
    """Whether an answer at `at`, ms, still belongs to the conversation: in a menu, or soon enough."""
    return interview.stage not in _ASKED or at - interview.last_at <= _UNDER_WAY_MS
