"""Two floors: what the layers under a gateway cost when they do nothing.

    form   FastAPI with Africa's Talking's five fields as `Form(...)` parameters, echoing
    bare   ASGI with nothing above it

Both answer an interview of BENCH_HOPS hops with a screen of a usual length.

    BENCH_HOPS=40 uvicorn bench.floors:form
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any

from fastapi import FastAPI, Form
from fastapi.responses import PlainTextResponse

_HOPS = int(os.environ.get("BENCH_HOPS", "40"))
_SCREEN = (
    "How easy was it to reach the place? Was it..\n1 Very easy\n2 Easy\n3 Difficult\n4 Very difficult"
    "\n99 Skip 0 Back"
)

form = FastAPI()


def reply(text: str) -> str:
    """The screen after the inputs in `text`."""
    inputs = text.count("*") + 1 if text else 0
    return f"END {_SCREEN}" if inputs >= _HOPS - 1 else f"CON {_SCREEN}"


@form.post("/ussd", response_class=PlainTextResponse)
async def ussd(
    sessionId: Annotated[str, Form()],
    serviceCode: Annotated[str, Form()],
    phoneNumber: Annotated[str, Form()],
    networkCode: Annotated[str, Form()],
    text: Annotated[str, Form()] = "",
) -> PlainTextResponse:
    """Parse, validate, echo."""
    return PlainTextResponse(reply(text))


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def bare(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """The same reply with no framework; `text` is the last field of our own load's bodies."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    answer = reply(body.rpartition(b"&text=")[2].decode()).encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
