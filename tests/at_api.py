"""A stand-in of Africa's Talking's API: takes what the gateway sends, keeps books, calls back.

    POST /version1/messaging        the classic form
    POST /version1/airtime/send     a form with `recipients` as JSON
    GET  /version1/user             ?username=
    GET  /query/transaction/find    ?transactionId=
    GET  /_books                    what was taken, and every callback made, as JSON

By itself, on this machine only:  python -m tests.at_api --port 8099 refused=0.05 slow=0.02 \\
    reports=http://127.0.0.1:8016/hooks/africastalking/SECRET/sms/reports

Sources: Africa's Talking's documents and the SDK 2.0.3 for requests, status codes and callbacks; public
integrations for airtime's replies and callbacks. From memory, so not to be relied on: the reply of the
look-up, the prose of refusals, and that a key used twice gets its first reply again. Stricter than the
API can be known to be: an unknown, repeated or empty field is a 400, and airtime needs its key.

What goes wrong is drawn by `Habits`' rates, from the seed, the number and how often it was tried, so
that it does not depend on who comes first; or, with `scripted`, it stands in the number's last four
digits (SCRIPTS).
"""

import argparse
import asyncio
import json
import random
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from flows.gsm import parts

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
SENDER = re.compile(r"[A-Za-z0-9 ._&-]{1,11}|\+?[0-9]{3,15}")
AMOUNT = re.compile(r"([A-Z]{3}) ([0-9]{1,9}(?:\.[0-9]{1,2})?)")
HTML = "<!DOCTYPE html><html><body><h1>Sorry</h1></body></html>"

STATUSES = {
    100: "Processed", 101: "Sent", 102: "Queued",
    401: "RiskHold", 402: "InvalidSenderId", 403: "InvalidPhoneNumber", 404: "UnsupportedNumberType",
    405: "InsufficientBalance", 406: "UserInBlacklist", 407: "CouldNotRoute", 409: "DoNotDisturbRejection",
    500: "InternalServerError", 501: "GatewayError", 502: "RejectedByGateway",
}  # fmt: skip

#: A number's last four digits and what then happens. Besides these: 9 and a statusCode (9403), 8 and
#: an HTTP status (8429).
SCRIPTS = {
    "7001": "html", "7002": "html broken", "7003": "type charset", "7004": "type text", "7005": "type html",
    "7006": "empty InvalidSenderId", "7007": "empty Sent to 0/1 Total Cost: 0",
    "7008": "empty InsufficientBalance",
    "7011": "slow taken", "7012": "slow lost", "7013": "cut", "7014": "list", "7015": "redirect",
    "7021": "no id", "7022": "bare cost", "7023": "odd cost", "7024": "text code", "7025": "bom",
    "6001": "failed None", "6002": "failed Insufficient balance", "6003": "word Queued", "6004": "no id",
    "6005": "empty The request was refused", "6006": "empty A duplicate request was received recently",
    "6007": "undelivered", "6009": "taken broken", "6008": "failed Something new about +233240006008",
}  # fmt: skip

PERMANENT, HELD, PASSING = (403, 404, 406, 409, 502), (401, 402, 407), (500, 501)
Story = list[tuple[str, str | None]]  # a message's statuses in turn, with the reason of a failure
REASONS = (
    "InsufficientCredit",
    "UserIsInactive",
    "NotNetworkSubcriber",
    "UserDoesNotExist",
    "DeliveryFailure",
)


@dataclass
class Habits:
    """How the stand-in behaves. Rates are of requests, or of messages taken, from 0 to 1."""

    username: str = "dial16"
    api_key: str = "key-of-the-stand-in"
    balance: Decimal = Decimal(1_000_000)
    currency: str = "GHS"
    price: Decimal = Decimal("0.0300")  # of one part
    seed: int = 0
    scripted: bool = False
    latency_seconds: float = 0.0
    per_second: int = 0  # requests; more get a 429. 0: no limit

    refused: float = 0.0  # this number, for good
    held: float = 0.0  # until a person acts
    passing: float = 0.0  # a statusCode that may be tried again
    busy: float = 0.0  # HTTP 429
    broken: float = 0.0  # HTTP 500, 502 or 503, half of them as a web page
    html: float = 0.0  # a web page with status 200; nothing was taken
    cut: float = 0.0  # taken, but the connection ends within the answer
    slow: float = 0.0  # no answer for slow_seconds: one half was taken, the other not
    slow_seconds: float = 12.0
    taken_broken: float = 0.0  # airtime: paid, and then answered with a 502

    reports: str = ""  # URL for delivery reports; none: no reports
    airtime_status: str = ""
    airtime_validation: str = ""  # asked before paying; sometimes `twice`
    rogue: float = 0.0  # of orders taken: one that nobody made is asked about too, see _probe
    report_seconds: float = 0.2  # the latest of a message's reports
    undelivered: float = 0.0
    twice: float = 0.0
    unordered: float = 0.0
    unknown_words: float = 0.0
    unreported: float = 0.0
    tries: int = 5  # of one callback, until it is answered 200
    again_seconds: float = 0.2


@dataclass
class Books:
    messages: list[dict[str, Any]] = field(default_factory=list)
    airtime: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)  # as asked, with `answer`
    rogues: list[dict[str, Any]] = field(default_factory=list)  # those that are nobody's orders
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)  # "path status" -> how often
    headers: list[dict[str, str]] = field(default_factory=list)  # of the last requests, without the key
    balance: Decimal = Decimal(0)


class Refused(Exception):
    def __init__(self, status: int, text: str):
        self.status, self.text = status, text


class AtApi:
    def __init__(self, habits: Habits):
        self.habits = habits
        self.books = Books(balance=habits.balance)
        self.url = ""
        self._tries: Counter[str] = Counter()
        self._recent: deque[float] = deque()
        self._orders: dict[str, tuple[str, asyncio.Task[dict[str, Any]]]] = {}  # by Idempotency-Key
        self._calls: set[asyncio.Task[None]] = set()
        self._ids = 0

    def app(self) -> Starlette:
        posts = {"/version1/messaging": self._messaging, "/version1/airtime/send": self._airtime}
        gets = {"/version1/user": self._user, "/query/transaction/find": self._find, "/_books": self._show}

        def route(path: str, work: Any, method: str) -> Route:
            async def answer(request: Request) -> Response:
                try:
                    response: Response = await work(request)
                except Refused as error:
                    kind = "text/html" if error.text.startswith("<") else "text/plain"
                    moved = {"location": "/_books"} if error.status == 302 else None
                    response = Response(error.text, error.status, moved, kind)
                self.books.answers[f"{path} {response.status_code}"] += 1
                return response

            return Route(path, answer, methods=[method])

        routes = [route(p, w, "POST") for p, w in posts.items()] + [
            route(p, w, "GET") for p, w in gets.items()
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with httpx2.AsyncClient(timeout=10, trust_env=False) as self._client:
            yield
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)

    # What is sent to us

    def _check_account(self, request: Request, username: str | None) -> None:
        given = request.headers.getlist("apikey")
        if given != [self.habits.api_key] or username != self.habits.username:
            raise Refused(401, "The supplied authentication is invalid")
        self.books.headers = [
            *self.books.headers[-99:],
            {k: v for k, v in request.headers.items() if k != "apikey"},
        ]

    async def _read_form(self, request: Request, needed: set[str], allowed: set[str]) -> dict[str, str]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Refused(415, "The request's content type is not supported")
        try:
            pairs = parse_qsl(
                (await request.body()).decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
            )
        except ValueError:
            raise Refused(400, "The request is not a form") from None
        form = dict(pairs)
        self._check_account(request, form.get("username"))
        if missing := sorted(name for name in needed if not form.get(name, "").strip()):
            raise Refused(400, f"Request is missing required form field {missing[0]!r}")
        if len(form) != len(pairs) or set(form) - needed - allowed:
            raise Refused(400, "Request has repeated or unknown form fields")
        return form

    async def _messaging(self, request: Request) -> Response:
        form = await self._read_form(
            request, {"username", "to", "message", "bulkSMSMode"}, {"from", "enqueue"}
        )  # fmt: skip
        numbers = form["to"].split(",")
        if form["bulkSMSMode"] != "1" or form.get("enqueue", "1") != "1":
            raise Refused(400, "bulkSMSMode and enqueue must be 1")
        if (
            not all(E164.fullmatch(n) for n in numbers)
            or len({*numbers}) < len(numbers)
            or len(numbers) > 100
        ):
            raise Refused(400, "to: must be at most 100 different numbers in international form")
        if "from" in form and not SENDER.fullmatch(form["from"]):
            raise Refused(400, "from: must be at most 11 characters, or a short code")
        if "idempotency-key" in request.headers:
            raise Refused(400, "Idempotency-Key: not for messages")
        fault = await self._before("sms", numbers[0])
        if fault.startswith("empty"):
            reply: Any = {"SMSMessageData": {"Message": fault.partition(" ")[2], "Recipients": []}}
            return await self._answer(reply, fault)
        taken = [self._take(n, form["message"], form.get("from"), fault) for n in numbers]
        cost = sum(
            (Decimal(r["cost"].split()[-1]) for r in taken if r["statusCode"] in (100, 101, 102)), Decimal(0)
        )
        sent = sum(r["messageId"] != "None" for r in taken)
        message = f"Sent to {sent}/{len(taken)} Total Cost: {self.habits.currency} {cost:.4f}"
        if fault == "odd cost":
            taken[0]["cost"] = "about three"
        if fault == "bare cost":
            taken[0]["cost"] = "0"
        if fault == "text code":
            taken[0]["statusCode"] = "101"
        return await self._answer({"SMSMessageData": {"Message": message, "Recipients": taken}}, fault)

    def _take(self, number: str, text: str, sender: str | None, fault: str) -> dict[str, Any]:
        """One recipient of the reply; a line in the books."""
        count = parts(text)
        cost = self.habits.price * count
        status = int(fault.split()[1]) if fault.startswith("status") else 101
        if status < 400 and cost > self.books.balance:
            status = 405
        if status < 400:
            self.books.balance -= cost
        line = {
            "id": self._id("ATXid_") if status < 400 else "None",
            "number": number,
            "text": text,
            "sender": sender,
            "parts": count,
            "cost": cost if status < 400 else Decimal(0),
            "state": "accepted" if status < 400 else "refused",
            "status_code": status,
            "delivery": "",
        }
        self.books.messages.append(line)
        if status < 400:
            self._report(line)
        return {
            "statusCode": status,
            "number": number,
            "status": STATUSES.get(status, "SomethingNew"),
            "cost": f"{self.habits.currency} {cost:.4f}" if status < 400 else "0",
            "messageId": "None" if fault == "no id" else line["id"],
        }

    async def _airtime(self, request: Request) -> Response:
        form = await self._read_form(request, {"username", "recipients"}, {"maxNumRetry"})
        keys = request.headers.getlist("idempotency-key")
        try:
            (wanted,) = json.loads(form["recipients"])
            number, amount = wanted["phoneNumber"], AMOUNT.fullmatch(wanted["amount"])
            fits = set(wanted) == {"phoneNumber", "amount"} and E164.fullmatch(number)
        except (ValueError, TypeError, KeyError):
            fits, amount = None, None
        if not fits or not amount or Decimal(amount[2]) <= 0:
            raise Refused(400, "recipients: must be a JSON list of one phoneNumber and amount")
        if len(keys) != 1 or not keys[0].isprintable() or not 0 < len(keys[0]) <= 128:
            raise Refused(400, "Idempotency-Key: must be given once")
        fault = await self._before("airtime", number)
        key = keys[0]
        if key in self._orders and self._orders[key][0] != form["recipients"]:
            raise Refused(400, "Idempotency-Key: already used for another order")
        if key not in self._orders:
            order = asyncio.create_task(self._order(number, amount[1], Decimal(amount[2]), key, fault))
            self._orders[key] = (form["recipients"], order)
        else:
            next(line for line in reversed(self.books.airtime) if line["key"] == key)["orders"] += 1
        reply = await asyncio.shield(self._orders[key][1])
        if not reply["numSent"]:
            self._orders.pop(key, None)  # nothing was paid: the key may be tried again
        elif fault == "taken broken":
            raise Refused(502, HTML + number)
        return await self._answer(reply, fault)

    async def _order(
        self, number: str, currency: str, amount: Decimal, key: str, fault: str
    ) -> dict[str, Any]:
        """Pay once; the reply. The line is in the books before anything is awaited."""
        request_id, refusal = self._id("ATQid_"), ""
        line: dict[str, Any] = {
            "id": request_id, "number": number, "amount": amount, "currency": currency, "key": key,
            "orders": 1, "state": "asked", "delivery": "",
        }  # fmt: skip
        self.books.airtime.append(line)
        kind, _, word = fault.partition(" ")
        if kind in ("failed", "empty"):
            refusal = word
        elif kind == "status":
            refusal = STATUSES.get(int(word), "Unknown")
        elif amount > self.books.balance:
            refusal = "Insufficient balance"
        elif self.habits.airtime_validation and not await self._validated(line):
            refusal = "The transaction was not validated"
        line["state"] = "refused" if refusal else "paid"
        if not refusal:
            self.books.balance -= amount
            self._report_airtime(line, failing=fault == "undelivered")
        response = {
            "phoneNumber": number,
            "errorMessage": refusal or "None",
            "amount": f"{currency} {amount:.2f}",
            "status": "Failed" if refusal else word if kind == "word" else "Sent",
            "requestId": "None" if refusal or fault == "no id" else request_id,
            "discount": f"{currency} {Decimal(0) if refusal else amount / 50:.4f}",
        }
        return {
            "errorMessage": refusal if kind == "empty" else "None",
            "numSent": 0 if refusal else 1,
            "totalAmount": f"{currency} {Decimal(0) if refusal else amount:.4f}",
            "totalDiscount": response["discount"],
            "responses": [] if kind == "empty" else [response],
        }

    async def _validated(self, line: dict[str, Any]) -> bool:
        asked = {
            "transactionId": line["id"],
            "phoneNumber": line["number"],
            "sourceIpAddress": "127.0.0.1",
            "currencyCode": line["currency"],
            "amount": f"{line['amount']:.4f}",
        }
        chance = self._next_chance("validation", line["number"])
        said = await self._ask(asked, self.books.validations)
        if said and chance.random() < self.habits.twice:  # an answer was lost on its way
            said = await self._ask(asked, self.books.validations)
        if chance.random() < self.habits.rogue:
            await self._probe(asked)
        return said

    async def _ask(self, asked: dict[str, str], into: list[dict[str, Any]]) -> bool:
        try:
            answer = await self._client.post(self.habits.airtime_validation, json=asked)
            said = answer.json() if answer.status_code == 200 else {}
        except (httpx2.HTTPError, ValueError):
            said = {}
        yes = isinstance(said, dict) and said.get("status") == "Validated"
        into.append(asked | {"answer": yes})
        return yes

    async def _probe(self, asked: dict[str, str]) -> None:
        """What somebody who had our account's password might order: each must be refused."""
        more = f"{Decimal(asked['amount']) * 10:.4f}"
        other = asked["phoneNumber"][:-1] + str(9 - int(asked["phoneNumber"][-1]))
        for change in (
            {}, {"amount": more}, {"currencyCode": "NGN"}, {"phoneNumber": other + "0"},
        ):  # fmt: skip
            await self._ask(asked | {"transactionId": self._id("ATQid_")} | change, self.books.rogues)
        await self._ask(asked | {"amount": more}, self.books.rogues)

    async def _user(self, request: Request) -> Response:
        self._check_account(request, request.query_params.get("username"))
        return JSONResponse({"UserData": {"balance": f"{self.habits.currency} {self.books.balance:.4f}"}})

    async def _find(self, request: Request) -> Response:
        self._check_account(request, self.habits.username)
        wanted = request.query_params.get("transactionId")
        for line in self.books.airtime:
            if line["id"] == wanted and line["state"] == "paid":
                value = f"{line['currency']} {line['amount']:.4f}"
                data = {"requestId": wanted, "status": line["delivery"] or "Pending", "value": value}
                return JSONResponse({"status": "Success", "data": data})
        return JSONResponse({"status": "Failure", "errorMessage": "Transaction not found"})

    async def _show(self, request: Request) -> Response:
        return Response(json.dumps(vars(self.books), default=str), media_type="application/json")

    # What goes wrong

    def _chance(self, *of: object) -> random.Random:
        return random.Random(":".join(map(str, (self.habits.seed, *of))))

    def _next_chance(self, kind: str, number: str) -> random.Random:
        self._tries[kind + number] += 1
        return self._chance(kind, number, self._tries[kind + number])

    def _fault(self, kind: str, number: str) -> str:
        ending, habits = number[-4:], self.habits
        if habits.scripted:
            plain = {"9": f"status {ending[1:]}", "8": f"http {ending[1:]}"}.get(ending[0], "")
            return SCRIPTS.get(ending, plain)
        chance = self._next_chance(kind, number)
        kinds = {
            f"status {chance.choice(PERMANENT)}": habits.refused,
            f"status {chance.choice(HELD)}": habits.held,
            f"status {chance.choice(PASSING)}": habits.passing,
            "http 429": habits.busy,
            chance.choice(("http 500", "http 503", "html broken", "html broken")): habits.broken,
            "html": habits.html,
            "cut": habits.cut,
            "taken broken": habits.taken_broken,
            chance.choice(("slow taken", "slow lost")): habits.slow,
        }
        return chance.choices([*kinds, ""], [*kinds.values(), max(0.0, 1 - sum(kinds.values()))])[0]

    async def _before(self, kind: str, number: str) -> str:
        """What goes wrong with this request; raises what happens before anything is taken."""
        now = time.monotonic()
        while self._recent and now - self._recent[0] > 1:
            self._recent.popleft()
        if self.habits.per_second and len(self._recent) >= self.habits.per_second:
            raise Refused(429, "Too many requests")
        self._recent.append(now)
        await asyncio.sleep(self.habits.latency_seconds)
        fault = self._fault(kind, number)
        if fault.startswith("http"):
            raise Refused(int(fault.split()[1]), f"No, not to {number}")
        if fault == "slow lost":
            await asyncio.sleep(self.habits.slow_seconds)
            raise Refused(503, "too late")
        if fault in ("html", "html broken", "redirect"):
            raise Refused({"html": 200, "html broken": 502}.get(fault, 302), HTML + number)
        return fault

    async def _answer(self, reply: Any, fault: str) -> Response:
        if fault == "slow taken":
            await asyncio.sleep(self.habits.slow_seconds)
        body = json.dumps([reply] if fault == "list" else reply).encode()
        if fault == "cut":

            async def half() -> AsyncIterator[bytes]:
                yield body[: len(body) // 2]

            return StreamingResponse(half(), 201, {"content-length": str(len(body))}, "application/json")
        kinds = {
            "type charset": "Application/JSON; charset=utf-8",
            "type text": "text/plain",
            "type html": "text/html",
        }
        kind = kinds.get(fault, "application/json")
        return Response((b"\xef\xbb\xbf" if fault == "bom" else b"") + body, 201, {"content-type": kind})

    # What we call back

    def _report(self, line: dict[str, Any]) -> None:
        """Delivery reports of a message: usually one on the way and one final."""
        chance = self._next_chance("report", line["number"])
        good: list[Story] = [[("Sent", None), ("Success", None)], [("Buffered", None), ("Success", None)]]
        bad: list[Story] = [
            [("Sent", None), ("Failed", chance.choice(REASONS))],
            [("Rejected", "UserInBlackList")],
            [("Submitted", None), ("Expired", None)],
            [("AbsentSubscriber", None), ("Success", None)],
        ]
        story = chance.choice(bad if chance.random() < self.habits.undelivered else good)
        line["delivery"] = story[-1][0]
        if chance.random() < self.habits.unknown_words:
            story = [("HandedToCarrier", None), *story]
        if chance.random() < self.habits.unreported:
            story = story[:-1]
        forms = []
        for status, reason in story:
            form = {"id": line["id"], "status": status, "phoneNumber": line["number"], "networkCode": "62001"}
            forms.append(form | ({"failureReason": reason} if reason else {}))
        for delay, form in self._times(chance, forms):
            self._later(delay, self.habits.reports, {"data": form})

    def _report_airtime(self, line: dict[str, Any], failing: bool) -> None:
        chance = self._next_chance("airtime status", line["number"])
        failing = chance.random() < self.habits.undelivered or failing
        line["delivery"] = "Failed" if failing else "Success"
        if failing:
            self.books.balance += line["amount"]  # given back
        status = {
            "phoneNumber": line["number"],
            "description": "Airtime delivery failed" if failing else "Airtime delivered successfully",
            "status": line["delivery"],
            "requestId": line["id"],
            "discount": f"{line['currency']} {line['amount'] / 50:.4f}",
            "value": f"{line['currency']} {line['amount']:.4f}",
        }
        notices = [status]
        if chance.random() < self.habits.unknown_words:
            notices = [status | {"status": "HandedToCarrier"}, status]
        if chance.random() < self.habits.unreported:
            notices = notices[:-1]
        for delay, notice in self._times(chance, notices):
            self._later(delay, self.habits.airtime_status, {"json": notice})

    def _times(
        self, chance: random.Random, calls: list[dict[str, Any]]
    ) -> list[tuple[float, dict[str, Any]]]:
        if calls and chance.random() < self.habits.twice:
            calls = [*calls, calls[-1]]
        delays = sorted(chance.uniform(0, self.habits.report_seconds) for _ in calls)
        if chance.random() < self.habits.unordered:
            delays.reverse()
        return list(zip(delays, calls, strict=True))

    def _later(self, delay: float, url: str, content: dict[str, Any]) -> None:
        if url:
            call = asyncio.create_task(self._call_back(delay, url, content))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call_back(self, delay: float, url: str, content: dict[str, Any]) -> None:
        await asyncio.sleep(delay)
        sent = next(iter(content.values()))
        for _ in range(self.habits.tries):
            try:
                status = (await self._client.post(url, **content)).status_code
            except httpx2.HTTPError:
                status = 0
            self.books.callbacks.append(
                {"id": sent.get("id") or sent["requestId"], "status": sent["status"], "answer": status}
            )
            if status == 200:
                return
            await asyncio.sleep(self.habits.again_seconds)

    def _id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}{self._chance('id', self._ids).getrandbits(128):032x}"


def _server(api: AtApi) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(api.app(), log_level="critical", ws="none", lifespan="on", timeout_graceful_shutdown=1)
    )


@contextmanager
def serving(habits: Habits) -> Iterator[AtApi]:
    """The stand-in on a free port of this machine, for as long as the block runs."""
    api = AtApi(habits)
    listener = socket.create_server(("127.0.0.1", 0))
    server = _server(api)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    give_up_at = time.monotonic() + 10
    while not server.started and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert server.started, "the stand-in did not start"
    api.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield api
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def read_habits(pairs: list[str]) -> Habits:
    """Habits from `name=value` words, each value read as its field's kind."""
    kinds: dict[str, Any] = {f.name: type(getattr(Habits, f.name)) for f in fields(Habits)}
    given: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in kinds:
            raise SystemExit(f"{name}: not a habit; there are {', '.join(kinds)}")
        given[name] = value in ("1", "true", "yes") if kinds[name] is bool else kinds[name](value)
    return Habits(**given)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.at_api")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("habits", nargs="*", metavar="habit=value")
    asked = parser.parse_args()
    with socket.create_server(("127.0.0.1", asked.port)) as listener:
        _server(AtApi(read_habits(asked.habits))).run(sockets=[listener])


if __name__ == "__main__":
    main()
