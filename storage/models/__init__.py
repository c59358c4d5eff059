"""The database's tables: the record, what is sent, what is published. Analysts read the views of `analysis/`.

    respondent ─┬─ interview ─┬─ response      one answer an item, the latest
                │             ├─ event         everything that happened, append-only
                │             └─ conflict      requests that did not fit: paradata
                ├─ session                     one USSD dialogue, dial to end
                ├─ outbound_message ── delivery_report    what we send, and what became of it
                ├─ sample_number ── campaign   who is to be invited, and who invites them
                ├─ directory                   numbers that are still needed, sealed
                ├─ results_wanted              who is to be texted the results
                └─ airtime_payment ── airtime_report    airtime for who completed; airtime_budget a wave
    instrument ── codebook_item ── codebook_option
    export_audit ── export_fetch                     exports of row-level data, and who fetched them
    query_log                                        queries beside releases
    release ─┬─ released_estimate                    what is published, for SQL and the results API
             └─ final_weight                         what each interview under it weighs

Respondents are pseudonyms: no table here holds an MSISDN that can be read; `directory` holds those that
something must still be sent to, encrypted under a key that the database has not. An interview id
determines respondent and wave, so what hangs on an interview repeats neither. Foreign keys stand where
the recorder's order of writing guarantees them (respondent, then interview, then the rest); a session
has none to an interview, because its end may be reported for a dial that never became one.

Which answers count: `interview.counted`, one interview a respondent and wave, see `standing.py`.
Dispositions: in_progress, complete, refusal, ineligible, quota_full (AAPOR 4.8: its cell had all the
completes it wants), results_only (came for the results alone),
withdrawn from what happened; partial and break_off from a sweep of what was not
resumed in time (`record.close_unfinished`).
"""

from storage.models.publishing import (
    ExportAudit,
    ExportFetch,
    FinalWeight,
    QueryLog,
    ReleasedEstimate,
    ReleasedVersion,
)
from storage.models.record import (
    BREAK_OFF,
    COMPLETE,
    IN_PROGRESS,
    PARTIAL,
    UNFINISHED,
    WITHDRAWN,
    CodebookItem,
    CodebookOption,
    Conflict,
    Event,
    Interview,
    Respondent,
    Response,
    StoredInstrument,
    UssdSession,
    WaveWord,
)
from storage.models.sending import (
    AirtimeBudget,
    AirtimePayment,
    AirtimeReport,
    Campaign,
    DeliveryReport,
    Directory,
    OutboundMessage,
    ResultsWanted,
    SampleNumber,
)
from storage.models.types import Moment, as_text, table_of

__all__ = [
    "BREAK_OFF",
    "COMPLETE",
    "IN_PROGRESS",
    "PARTIAL",
    "UNFINISHED",
    "WITHDRAWN",
    "AirtimeBudget",
    "AirtimePayment",
    "AirtimeReport",
    "Campaign",
    "CodebookItem",
    "CodebookOption",
    "Conflict",
    "DeliveryReport",
    "Directory",
    "Event",
    "ExportAudit",
    "ExportFetch",
    "FinalWeight",
    "Interview",
    "Moment",
    "OutboundMessage",
    "QueryLog",
    "ReleasedEstimate",
    "ReleasedVersion",
    "Respondent",
    "Response",
    "ResultsWanted",
    "SampleNumber",
    "StoredInstrument",
    "UssdSession",
    "WaveWord",
    "as_text",
    "table_of",
]
