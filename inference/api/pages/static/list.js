// Keeps the list of studies current; the rows themselves are drawn by the server.
const INTERVAL_MS = 2000;
const STALE_MS = 10000; // a page that has lost the service says so within this time

const list = document.getElementById("studies");
const freshness = document.getElementById("freshness");
let lastAnswer = Date.now();
let tag = "";

async function refresh() {
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(list.dataset.fragment, { headers, signal: AbortSignal.timeout(5000) });
    if (answer.redirected || answer.status === 401) { location.reload(); return; }
    if (answer.status === 200) {
      tag = answer.headers.get("ETag") || "";
      const html = await answer.text();
      const focused = document.activeElement?.closest?.("tr[data-study]")?.dataset.study;
      list.innerHTML = html; // escaped by the server's templates
      if (focused) list.querySelector(`tr[data-study="${CSS.escape(focused)}"] a`)?.focus();
    }
    if (answer.ok || answer.status === 304) lastAnswer = Date.now();
  } catch { /* said below, once it is stale */ }
}

function sayHowFresh() {
  const isFresh = Date.now() - lastAnswer < STALE_MS;
  freshness.dataset.fresh = String(isFresh);
  const text = isFresh ? "updated just now" : `no answer from the service for ${Math.round((Date.now() - lastAnswer) / 1000)} s`;
  if (freshness.textContent !== text) freshness.textContent = text;
}

async function loop() {
  if (!document.hidden) await refresh();
  sayHowFresh();
  setTimeout(loop, INTERVAL_MS);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setTimeout(loop, INTERVAL_MS);
