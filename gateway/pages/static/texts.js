// The phone's messages: texts to the simulator's webhook, and what came back, asked for every two seconds.
//
// A worker sends the answers, so one comes a moment after its text. Each message that arrives is reported
// as delivered, once, as a network does it.
"use strict";

{
  const bench = document.getElementById("bench"), panel = document.getElementById("texts");
  const thread = document.getElementById("thread"), form = document.getElementById("texting");
  const words = document.getElementById("words"), note = document.getElementById("texts-note");
  const base = bench.dataset.hook.slice(0, -"/ussd".length);
  const shown = new Set();
  let whose = "";

  const msisdn = () => document.getElementById("msisdn").value.replaceAll(" ", "");
  const network = () => document.getElementById("network").value;
  const random = () => [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");

  function post(path, body) {
    return fetch(base + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10000),
    });
  }

  function add(side, text) {
    const bubble = document.createElement("li");
    bubble.className = side;
    bubble.textContent = text;
    thread.append(bubble);
    thread.scrollTop = thread.scrollHeight;
  }

  function changeSim() {
    whose = msisdn();
    shown.clear();
    thread.replaceChildren();
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = words.value;
    if (text.trim() === "" || !document.getElementById("msisdn").reportValidity()) return;
    if (whose !== msisdn()) changeSim();
    try {
      const answer = await post("/sms", { id: "page_" + random(), msisdn: whose, network: network(), to: panel.dataset.to, text });
      if (!answer.ok) throw new Error(String(answer.status));
    } catch {
      note.textContent = "Not sent. Try again.";
      return;
    }
    note.textContent = "";
    words.value = "";
    add("mine", text);
    write("reply", "text " + text);
    setTimeout(look, 400);
  });

  async function look() {
    if (whose !== msisdn()) changeSim();
    if (document.hidden || !/^\+[0-9]{7,15}$/.test(whose)) return;
    const asked = whose;
    let rows;
    try {
      const answer = await post("/inbox", { msisdn: asked });
      if (!answer.ok) return;
      rows = await answer.json();
    } catch {
      return; // asked again in two seconds
    }
    for (const { id, kind, text } of rows) {
      if (asked !== whose || shown.has(id)) continue;
      shown.add(id);
      add(kind === "airtime" ? "notice" : "theirs", text);
      write("screen", (kind === "airtime" ? "# " : "SMS ") + text);
      count(text);
      if (kind === "sms") post("/sms/delivery", { id, status: "Success", network: network(), msisdn: asked }).catch(() => {});
    }
  }

  setInterval(look, 2000);
  look();
}
