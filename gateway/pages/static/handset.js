// A feature phone that dials the simulator's webhook (the wire: gateway/aggregators/simulator.py).
//
// The phone is in one of four states, shown as data-state on #phone:
//   idle     the number being dialled          call -> waiting
//   waiting  a hop is on its way               a screen -> open or message; no reply -> message
//   open     a screen that wants a reply       OK -> waiting; cancel, end -> idle; drop -> message
//   message  a last screen or a failure        OK, cancel, end -> idle
"use strict";

const at = (id) => document.getElementById(id);
const bench = at("bench"), phone = at("phone"), number = at("number"), reply = at("reply"), log = at("log");
const { hook, prefix } = bench.dataset;
const codes = JSON.parse(bench.dataset.codes); // one a wave
const FAILURE = "Connection problem or invalid MMI code.";
const DEADLINE_MS = 10000; // as long as an aggregator waits for us

let session = null; // { id, msisdn, network, code, sequence, input, began, over }
let lastDialled = "";
let letters = false; // typing letters, several presses a key, instead of digits
let tapped = { key: "", at: 0, index: 0 };
const entries = []; // the transcript, one string an entry; a screen is one entry of several lines

// ---------------------------------------------------------------- what the phone shows

function show(state, text = "") {
  phone.dataset.state = state;
  at("waiting").textContent = state === "waiting" ? "USSD code running..." : "";
  at("screen").textContent = state === "open" || state === "message" ? text : "";
  reply.value = "";
  letters = false;
  at("scroll").scrollTop = 0;
  if (state === "idle") phone.dataset.signal = "4"; // a lost network is found again
  refresh();
  // Where the keyboard was on the phone it stays there; focus on the page's own controls is left alone.
  const focused = document.activeElement;
  if (focused === document.body || phone.contains(focused)) {
    if (state === "idle") number.focus({ preventScroll: true });
    if (state === "open") reply.focus({ preventScroll: true });
    if (state === "message") at("popup").focus({ preventScroll: true });
  }
}

function refresh() {
  const state = phone.dataset.state, connected = session !== null && !session.over;
  const typed = state === "idle" ? number.value : reply.value;
  const soft = {
    idle: typed ? ["Call", "Clear"] : ["", ""],
    waiting: ["", "Cancel"],
    open: ["OK", typed ? "Clear" : "Cancel"],
    message: ["OK", ""],
  }[state];
  at("left").textContent = soft[0];
  at("right").textContent = soft[1];
  at("soft-left").setAttribute("aria-label", soft[0] || "Left soft key");
  at("soft-right").setAttribute("aria-label", soft[1] || "Right soft key");
  further();
  at("typing").hidden = state !== "open";
  at("typing").textContent = letters ? "abc" : "123";
  at("rest").hidden = typed !== "";
  const lost = phone.dataset.signal === "0";
  at("bars").setAttribute("aria-label", lost ? "Signal: none" : "Signal: full");
  at("operator").textContent = lost ? "No service" : at("network").selectedOptions[0].dataset.short;
  at("sim").disabled = connected; // one does not change the SIM in the middle of a call
  at("drop").disabled = !connected;
  at("again").disabled = !connected || state !== "open";
}

// As phones do: arrows between the soft keys when the screen holds more than is seen.
function further() {
  const { scrollTop, clientHeight, scrollHeight } = at("scroll");
  const above = scrollTop > 4, below = scrollTop + clientHeight < scrollHeight - 4;
  at("further").textContent = (above ? "\u25B2" : "") + (below ? "\u25BC" : "");
}

function tick() {
  const now = new Date();
  at("clock").textContent = String(now.getHours()).padStart(2, "0") + ":" + String(now.getMinutes()).padStart(2, "0");
}

// GSM 03.38, as flows/gsm.py counts: some characters take two places, others the phone lacks.
const TWO_PLACES = /[\f^{}\\[~\]|€]/g;
const NOT_GSM = /[^@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ -#¤%-?¡A-ZÄÖÑÜ§¿a-zäöñüà\f^{}\\[~\]|€]/g;

function count(text) {
  const most = Number(at("network").selectedOptions[0].dataset.budget);
  const size = text.length + (text.match(TWO_PLACES) || []).length;
  const strange = [...new Set(text.match(NOT_GSM) || [])].join(" ");
  at("count").textContent = `${size}/${most}` + (strange ? ` and no phone shows ${strange}` : "");
  at("count").dataset.state = size > most || strange ? "over" : "within";
}

// ---------------------------------------------------------------- the transcript

function write(kind, text) {
  entries.push(text);
  const line = document.createElement("span");
  line.className = kind;
  line.textContent = text + "\n";
  log.append(line);
  log.scrollTop = log.scrollHeight;
}

async function copy() {
  const text = entries.join("\n") + "\n";
  try {
    await navigator.clipboard.writeText(text); // absent on plain http from another machine
  } catch {
    getSelection().selectAllChildren(log);
    if (!document.execCommand("copy")) {
      at("note").textContent = "Selected: copy with Ctrl+C";
      return;
    }
  }
  at("note").textContent = "Copied";
}

// ---------------------------------------------------------------- the network

function post(path, body) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
}

function call() {
  const dialled = number.value.replaceAll(" ", "");
  if (dialled === "") { // as phones do: the call key brings back the last number
    number.value = lastDialled;
    return refresh();
  }
  const msisdn = at("msisdn").value.replaceAll(" ", "");
  at("msisdn").setCustomValidity(/^\+[0-9]{7,15}$/.test(msisdn) ? "" : "In full, with + and the country's code");
  if (!at("msisdn").reportValidity()) return;
  remember("msisdn", at("msisdn").value);
  lastDialled = dialled;
  number.value = "";
  // The longest: *384*16*7# may be a wave's own code, beside one of *384*16#.
  const fits = (c) => dialled === c || (dialled.startsWith(c.slice(0, -1) + "*") && dialled.endsWith("#"));
  const code = codes.filter(fits).sort((a, b) => b.length - a.length)[0];
  if (!code) return show("message", FAILURE);
  session = { id: "page_" + random(8), msisdn, network: at("network").value, code, sequence: 0, input: "", began: Date.now(), over: false };
  write("dial", "dial " + dialled);
  send(dialled.slice(code.length, -1));
}

// `input` undefined: the last hop once more, as networks sometimes do on their own.
async function send(input) {
  const hop = session;
  if (input !== undefined) {
    hop.sequence += 1;
    hop.input = input;
  }
  show("waiting");
  let screen, more;
  try {
    const { id, msisdn, network, code, sequence, input: text } = hop;
    const answered = await post(hook, { session: id, msisdn, network, code, sequence, input: text });
    if (!answered.ok) throw new Error(String(answered.status));
    ({ screen, more } = await answered.json());
    if (typeof screen !== "string" || typeof more !== "boolean") throw new Error("not a screen");
  } catch {
    if (hop !== session || hop.over) return;
    end("Failed");
    write("remark", "# " + FAILURE);
    return show("message", FAILURE);
  }
  if (hop !== session || hop.over) return; // the reply came after the call was over: nobody sees it
  write("screen", (more ? "CON " : "END ") + screen);
  count(screen);
  if (!more) end("Success");
  show(more ? "open" : "message", screen);
}

function answer() {
  const input = reply.value;
  write("reply", "> " + input);
  send(input);
}

function again() {
  write("dial", "again");
  send();
}

function hangUp() {
  if (session && !session.over) {
    end("Incomplete");
    write("dial", "hang up");
  }
  show("idle");
}

// The session is over and the aggregator says so; if that notice is lost, so be it, as in the field.
function end(status) {
  const { id, msisdn, network, code, sequence, began } = session;
  session.over = true;
  const notice = { session: id, msisdn, network, code, status, hops: sequence, duration_ms: Date.now() - began };
  post(hook + "/events", notice).catch(() => {});
}

// The connection is gone: no notice reaches the gateway, and a reply on its way reaches nobody.
function drop() {
  session.over = true;
  write("remark", "# connection dropped");
  phone.dataset.signal = "0";
  show("message", FAILURE);
}

// ---------------------------------------------------------------- the keys

const press = {
  left() {
    const state = phone.dataset.state;
    if (state === "idle" && number.value) call();
    else if (state === "open") answer();
    else if (state === "message") show("idle");
  },
  right() {
    const state = phone.dataset.state;
    if (state === "idle" || (state === "open" && reply.value)) erase();
    else hangUp();
  },
  call() {
    const state = phone.dataset.state;
    if (state === "idle") call();
    else if (state === "open") answer();
  },
  end() {
    if (phone.dataset.state === "idle") number.value = "";
    hangUp();
  },
  up() { at("scroll").scrollBy(0, -60); },
  down() { at("scroll").scrollBy(0, 60); },
  letters() {
    if (phone.dataset.state === "open") letters = !letters;
    refresh();
  },
};

function line() {
  return { idle: number, open: reply }[phone.dataset.state];
}

function erase() {
  if (line()) line().value = line().value.slice(0, -1);
  tapped.at = 0;
  refresh();
}

function type(key, choices) {
  if (!line()) return;
  if (letters && line() === reply) {
    const set = choices + (key === "0" ? " 0" : key);
    const now = Date.now();
    const same = tapped.key === key && now - tapped.at < 900;
    tapped = { key, at: now, index: same ? (tapped.index + 1) % set.length : 0 };
    reply.value = (same ? reply.value.slice(0, -1) : reply.value) + set[tapped.index];
  } else {
    line().value += key;
  }
  line().scrollLeft = line().scrollWidth;
  refresh();
}

phone.addEventListener("mousedown", (event) => {
  // A mouse must not carry the focus to a key, or Enter would press that key once more.
  if (event.target.closest("button")) event.preventDefault();
});
phone.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.key) type(button.dataset.key, button.dataset.letters);
  else press[button.dataset.press]();
});
document.addEventListener("keydown", (event) => {
  const elsewhere = event.target.closest("input, select, button, a, pre");
  if (event.ctrlKey || event.metaKey || event.altKey || (elsewhere && !phone.contains(elsewhere))) return;
  const onKey = event.target.closest("button"); // reached with Tab: Enter and Space press it
  if (event.key === "Enter" && !onKey) press.left();
  else if (event.key === "Escape") press.end();
  else if (event.key === "ArrowUp") press.up();
  else if (event.key === "ArrowDown") press.down();
  else {
    if (line() && !onKey && (event.key.length === 1 || event.key === "Backspace")) line().focus();
    return; // and the browser types it
  }
  event.preventDefault();
});
for (const form of [at("dialler"), at("answer")]) form.addEventListener("submit", (event) => event.preventDefault());
for (const input of [number, reply]) input.addEventListener("input", refresh);

// ---------------------------------------------------------------- the SIM, kept while the tab is open

function remember(key, value) {
  try { sessionStorage.setItem(key, value); } catch { /* storage refused: forgotten on reload */ }
}
function recall(key) {
  try { return sessionStorage.getItem(key); } catch { return null; }
}
function random(bytes) {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
function newSim() {
  at("msisdn").value = `${prefix} 24 000 ${String(1 + (parseInt(random(4), 16) % 9999)).padStart(4, "0")}`;
  at("msisdn").setCustomValidity("");
  remember("msisdn", at("msisdn").value);
}

at("scroll").addEventListener("scroll", further);
addEventListener("resize", further);
at("new-sim").addEventListener("click", newSim);
at("msisdn").addEventListener("input", () => at("msisdn").setCustomValidity(""));
at("msisdn").addEventListener("change", () => remember("msisdn", at("msisdn").value));
at("network").addEventListener("change", () => { remember("network", at("network").value); count(at("screen").textContent); refresh(); });
at("drop").addEventListener("click", drop);
at("again").addEventListener("click", again);
at("copy").addEventListener("click", copy);
at("clear").addEventListener("click", () => { entries.length = 0; log.replaceChildren(); at("note").textContent = ""; });

if (recall("msisdn")) at("msisdn").value = recall("msisdn"); else newSim();
if (recall("network")) at("network").value = recall("network");
if (at("network").selectedIndex < 0) at("network").selectedIndex = 0;
tick();
setInterval(tick, 5000);
count("");
show("idle");
