// Home: what is running, asked again every five seconds.
"use strict";

const health = document.getElementById("health");
const overall = document.getElementById("overall");
const parts = document.getElementById("parts");
let shown = ""; // redrawn only on a change, so that a screen reader is not told the same again

function draw(state, sentence, rows) {
  const now = JSON.stringify([state, sentence, rows]);
  if (now === shown) return;
  shown = now;
  overall.dataset.state = state;
  overall.textContent = sentence;
  parts.replaceChildren(...rows.map(([name, part]) => {
    const row = document.createElement("li");
    row.dataset.state = part.up ? "up" : "down";
    for (const [kind, text] of [["name", name], ["word", part.up ? "up" : "down"], ["detail", part.detail || ""]]) {
      const cell = document.createElement("span");
      cell.className = kind;
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
}

async function ask() {
  try {
    const reply = await fetch(health.dataset.ready, { cache: "no-store", signal: AbortSignal.timeout(4000) });
    const { ready, parts: found } = await reply.json(); // 503 has the same body
    draw(ready ? "up" : "down", ready ? "Ready: every part works." : "Not ready.", Object.entries(found));
  } catch {
    draw("down", "The service does not answer.", []);
  }
  setTimeout(ask, 5000);
}

ask();
