"""Withdrawal at the office's request: for respondents who write or call instead of dialling."""

from dataclasses import dataclass

from flows.wave import Wave
from gateway.dialogue import Dialogue
from gateway.lookup import RecordLookup
from storage.database import check_schema, open_engine
from storage.live import LiveStore
from storage.respondents import Pseudonyms, erase


@dataclass(frozen=True, slots=True)
class Erased:
    receipt: str  # "" where there was nothing to withdraw in this wave
    interviews: int  # erased in the record, over all waves; later ones on the stream follow


async def erase_respondent(
    msisdn: str, *, wave: Wave, live_url: str, database_url: str, pseudonym_key: bytes, live_days: int
) -> Erased:
    """Takes a respondent's answers out of the live store and the record.

    Raises Unavailable or SQLAlchemyError while a store is away: nothing is promised then, try again.
    """
    live, engine = LiveStore(live_url, live_days), open_engine(database_url)
    try:
        check_schema(engine)
        pseudonyms = Pseudonyms(pseudonym_key)
        dialogue = Dialogue(wave, live, pseudonyms, RecordLookup(engine, live_days).find)
        receipt = await dialogue.withdraw(msisdn)
        erased = erase(engine, pseudonyms.of(msisdn), receipt=receipt)
        return Erased(receipt or "", erased)
    finally:
        await live.close()
        engine.dispose()
