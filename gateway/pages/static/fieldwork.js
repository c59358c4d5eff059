// Fetches the figures again every so often. Without this script the page has a link for that.
"use strict";

const figures = document.getElementById("figures");
const trouble = document.getElementById("trouble");
const pause = document.getElementById("pause");
const seconds = Number(figures.dataset.seconds);
let timer = 0;

function replace(html) {
  const open = new Set([...figures.querySelectorAll("details[open]")].map((d) => d.id));
  const focused = document.activeElement && figures.contains(document.activeElement)
    ? document.activeElement.closest("[id], [aria-labelledby]") : null;
  const name = focused && focused !== figures ? focused.id || focused.getAttribute("aria-labelledby") : "";
  const places = [...figures.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  figures.innerHTML = html; // our own server's, in which everything inserted is escaped
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  figures.querySelectorAll(".scroll").forEach((box, n) => { box.scrollLeft = places[n] || 0; });
  if (name) {
    const again = figures.querySelector(`#${CSS.escape(name)} > summary, .scroll[aria-labelledby="${CSS.escape(name)}"]`);
    again?.focus({ preventScroll: true });
  }
}

async function refresh() {
  clearTimeout(timer);
  let said = "";
  try {
    const reply = await fetch(figures.dataset.from, { cache: "no-store", signal: AbortSignal.timeout(15000) });
    if (reply.status === 401) {
      location.reload(); // to the door
      return;
    }
    if (reply.status === 200 || reply.status === 503) replace(await reply.text());
    else said = "The figures could not be fetched. Trying again.";
  } catch {
    said = "The service does not answer. Trying again.";
  }
  if (trouble.textContent !== said) trouble.textContent = said;
  plan();
}

function plan() {
  clearTimeout(timer);
  const paused = pause.getAttribute("aria-pressed") === "true";
  if (!paused && !document.hidden) timer = setTimeout(refresh, seconds * 1000);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(paused));
  if (paused) plan();
  else refresh();
});
document.getElementById("reload").addEventListener("click", (event) => {
  event.preventDefault();
  refresh();
});
document.addEventListener("visibilitychange", () => {
  const paused = pause.getAttribute("aria-pressed") === "true";
  if (document.hidden || paused) clearTimeout(timer);
  else refresh();
});
plan();
