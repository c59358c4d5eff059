"""Exports over HTTP: asked for, watched, fetched. A worker makes them; `exports.ledger` keeps the book.

    POST /api/v1/exports                 202, Location
    GET  /api/v1/exports                 what you asked for, in the order of asking
    GET  /api/v1/exports/{id}            how it stands
    GET  /api/v1/exports/{id}/file       the archive; Range resumes a download that was broken off

A reader sees their own exports. Each time that an archive is sent is written down, before it is. The archive
lies in the data folder, which gateway and workers share.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import redis
from rq import Queue
from rq.serializers import JSONSerializer
from starlette.responses import FileResponse
from starlette.routing import Route

from gateway.asking import Answer, Asked, Desk, Problem, as_json, bad, book_page
from gateway.jobs import QUEUE, enqueue_export
from storage.analysis.dictionary import VARIANTS
from storage.analysis.exports import fetches, ledger
from storage.analysis.exports.formats import EXPORTS
from storage.analysis.exports.microdata import Asked as Export
from storage.analysis.exports.microdata import ExportError

log = logging.getLogger("dial16.downloads")

ARCHIVES = "exports"  # in the data folder; the same as main.py's workers write to
_MOST_AT_ONCE = 3  # exports of one reader that are not made yet
_KEYS = {"variant": str, "formats": list, "wave": str, "language": str, "excel": bool, "simulated": bool,
         "purpose": str}  # fmt: skip


def export_routes(desk: Desk, base: str, data_dir: Path) -> list[Route]:
    archives = data_dir / ARCHIVES

    def ask(asked: Asked) -> Answer:
        asked.only()
        given = _body(asked)
        engine, by = asked.material.engine, f"api:{asked.reader.name}"
        if ledger.open_of(engine, by) >= _MOST_AT_ONCE:
            raise Problem(
                429, "Too many exports", f"{_MOST_AT_ONCE} are being made; wait for one", Retry_After="60"
            )
        # A purpose is the reader's own: nobody joins their files with somebody else's by guessing its name.
        purpose = f"{by}:{given['purpose']}" if given.get("purpose") else ledger.new_purpose()
        export = Export(
            given.get("variant", "scientific"), purpose,
            given.get("wave"), given.get("language", ""), given.get("simulated", False),
            given.get("excel", False),
        )  # fmt: skip
        languages = asked.material.instrument.languages
        if export.variant not in VARIANTS:
            raise bad(f"variant: give one of {', '.join(VARIANTS)}")
        if export.language and export.language not in languages:
            raise bad(f"language: give one of {', '.join(languages)}")
        try:
            name = ledger.ask(engine, export, given.get("formats", ["csv"]), by)
        except ExportError as error:
            raise bad(f"formats: {error}") from None
        try:
            enqueue_export(Queue(QUEUE, connection=asked.material.live, serializer=JSONSerializer), name)
        except redis.RedisError as error:  # it stays written down: the workers' sweep finds it
            log.warning("the queue is not reached: %s", type(error).__name__)
        answer = status_of(asked, name)
        return Answer(answer.body, answer.kind, 202, {"Location": f"{base}/{name}"})

    def every(asked: Asked) -> Answer:
        found = partial(fetches.asked_page, asked.material.engine, f"api:{asked.reader.name}")
        return book_page(
            asked,
            found,
            lambda r: {**r._mapping, "formats": r.formats.split(), "file": _address(base, r.id, r.state)},
        )

    def status(asked: Asked) -> Answer:
        asked.only()
        return status_of(asked, asked.path["export"])

    def status_of(asked: Asked, name: str) -> Answer:
        _own(asked, name)
        stands = ledger.progress_of(asked.material.engine, name)
        assert stands is not None
        return as_json(
            {
                "id": stands.id, "state": stands.state, "step": stands.step or None, "done": stands.done,
                "total": stands.total, "rows": stands.rows, "sha256": stands.digest,
                "expires_at": stands.expires_at, "error": stands.error,
                "file": _address(base, name, stands.state),
            }
        )  # fmt: skip

    def file(asked: Asked) -> Answer:
        asked.only()
        name = asked.path["export"]
        _own(asked, name)
        engine = asked.material.engine
        try:
            path = ledger.file_of(engine, archives, name)
        except ExportError as error:
            stands = ledger.progress_of(engine, name)
            waits = stands is not None and stands.state in (ledger.WAITING, ledger.RUNNING)
            raise Problem(409 if waits else 410, "No file", str(error)) from None
        stands = ledger.progress_of(engine, name)
        assert stands is not None
        headers = {
            "ETag": f'"{stands.digest}"',
            "Cache-Control": "private, no-cache",
            "Vary": "Authorization",
        }
        if asked.method == "GET":
            by = f"api:{asked.reader.name}"
            fetches.note_fetch(engine, name, by, part="range" in asked.headers)
        return Answer(
            file=FileResponse(
                path, headers=headers, media_type="application/zip", filename=f"dial16-{name[:8]}.zip"
            )
        )

    return [
        desk.route(base, ask, method="POST"),
        desk.route(base, every),
        desk.route(base + "/{export}", status),
        desk.route(base + "/{export}/file", file),
    ]


def _address(base: str, name: str, state: str) -> str | None:
    """Where the archive is fetched, once it is made."""
    return f"{base}/{name}/file" if state == ledger.DONE else None


def _own(asked: Asked, name: str) -> None:
    """Raises Problem unless this reader asked for it."""
    if ledger.asked_by(asked.material.engine, name) != f"api:{asked.reader.name}":
        raise Problem(404, "No such export", "ask for one with POST /api/v1/exports")


def _body(asked: Asked) -> dict[str, Any]:
    given = asked.json_object(_KEYS)
    formats = given.get("formats", ["csv"])
    if not formats or not all(isinstance(f, str) and f in EXPORTS for f in formats):
        raise bad(f"formats: give some of {', '.join(EXPORTS)}")
    return given
