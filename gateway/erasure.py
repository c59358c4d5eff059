"""Withdrawal at the office's request: for respondents who write or call instead of dialling."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from flows.wave import Wave
from gateway.dialogue import Dialogue
from gateway.lookup import RecordLookup
from storage.database import check_schema, open_engine, reading
from storage.live import LiveStore, compact, key_id
from storage.models import Interview, table_of
from storage.resp import Unavailable
from storage.respondents import OtherKeyError, Pseudonyms, erase, knows


@dataclass(frozen=True, slots=True)
class Erased:
    receipts: tuple[str, ...]  # one a wave that the live store or the record could still go on with
    interviews: int  # erased in the record, over all waves; later ones on the stream follow
    known: bool  # dialled, wrote, or was in a sample: who is not has nothing that could be erased


async def erase_respondent(
    msisdn: str,
    *,
    waves: Sequence[Wave],
    live_url: str,
    database_url: str,
    pseudonym_key: bytes,
    live_days: int,
) -> Erased:
    """Takes a respondent's answers of every wave out of the live store and the record, with their number
    and what was to be sent to it; they count as opted out from then on, also who was only sampled.

    `waves`: those fielded now. Raises OtherKeyError under another key than the live store's; Unavailable
    or SQLAlchemyError while a store is away: nothing is promised then, try again.
    """
    live, engine = LiveStore(live_url, live_days), open_engine(database_url)
    try:
        check_schema(engine)
        if not await live.knows_key(key_id(pseudonym_key)):
            raise OtherKeyError()
        pseudonyms = Pseudonyms(pseudonym_key)
        lookup = RecordLookup(engine, live_days)
        dialogues = {
            wave.id: Dialogue(
                wave,
                live,
                pseudonyms,
                lookup.find,
                find_instrument=lookup.instrument,
                count_recorded=lookup.completes,
            )
            for wave in waves
        }
        any_of_them = next(iter(dialogues.values()))  # for a wave that is over: it needs its id only
        respondent = pseudonyms.of(msisdn)
        receipts, interviews = [], 0
        # These waves too where the record does not know them yet: what was said is on its way.
        for wave_id in dict.fromkeys((*dialogues, *_waves_of(engine, respondent))):
            receipt = await dialogues.get(wave_id, any_of_them).withdraw(msisdn, wave_id)
            interviews += erase(engine, respondent, wave_id, receipt)
            if receipt:
                receipts.append(receipt)
        known = bool(receipts) or knows(engine, respondent)
        if known:
            at = any_of_them.clock()
            await live.opt_out(respondent, at)
            # Over the stream too: the record may not have met them yet.
            entry = {"kind": "opted_out", "respondent": respondent, "at": at, "aggregator": None}
            await live.append(compact(entry))
            erase(engine, respondent)
        return Erased(tuple(receipts), interviews, known)
    except Unavailable as error:
        raise Unavailable(
            f"{error}: nothing is promised; see that it runs (`make run`) and that DIAL16_REDIS_URL is right,"
            " then try again"
        ) from None
    finally:
        await live.close()
        engine.dispose()


def _waves_of(engine: Engine, respondent: str) -> list[str]:
    """The waves that the record has an interview of this pseudonym in."""
    wave = table_of(Interview).c.wave
    asked = select(wave).where(table_of(Interview).c.respondent == respondent).distinct().order_by(wave)
    with reading(engine) as db:
        return list(db.execute(asked).scalars())
