// Keeps the reading list current, counts down its deadlines, and works from the keyboard.
const INTERVAL_MS = 2000;
const STALE_MS = 10000; // a page that has lost the service says so within this time
const SOON_S = 15 * 60;

const pageRoot = document.getElementById("reading-page");
const list = document.getElementById("reading");
const freshness = document.getElementById("freshness");
const message = document.getElementById("message");
const words = pageRoot.dataset;
let lastAnswer = Date.now();
let tag = "";
let current = ""; // the task under the keyboard, which survives a new drawing

const rows = () => [...list.querySelectorAll("tr[data-task]")];
const rowOf = (task) => rows().find((row) => row.dataset.task === task);

function mark(task, { focus = true } = {}) {
  current = task;
  for (const row of rows()) {
    const isCurrent = row.dataset.task === task;
    row.classList.toggle("is-current", isCurrent);
    if (isCurrent) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
    if (isCurrent && focus) {
      row.querySelector("a").focus();
      row.scrollIntoView({ block: "nearest" });
    }
  }
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.dataset.task === current);
  const next = now < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, now + by));
  mark(all[next].dataset.task);
}

function say(text, isProblem) {
  message.textContent = text;
  message.hidden = !text;
  message.className = isProblem ? "problem" : "banner banner-info";
}

async function act(task, action) {
  const options = { method: "POST", headers: {}, signal: AbortSignal.timeout(10000) };
  if (action === "undo-promotion") {
    const reason = prompt(words.undoQuestion);
    if (!reason) return;
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify({ reason });
  }
  try {
    const answer = await fetch(`/v1/reading-tasks/${task}/${action}`, options);
    const done = { claim: words.claimed, return: words.returned, "undo-promotion": words.undone };
    if (answer.ok) say(done[action], false);
    else say((await answer.json()).detail || String(answer.status), true);
  } catch (error) { say(String(error), true); }
  await refresh();
}

async function refresh() {
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(list.dataset.fragment, { headers, signal: AbortSignal.timeout(5000) });
    if (answer.redirected || answer.status === 401) { location.reload(); return; }
    if (answer.status === 200) {
      tag = answer.headers.get("ETag") || "";
      const hadFocus = list.contains(document.activeElement);
      const focused = document.activeElement?.closest?.("tr[data-task]")?.dataset.task || current;
      list.innerHTML = await answer.text(); // escaped by the server's templates
      if (focused && rowOf(focused)) mark(focused, { focus: hadFocus });
      countDown();
    }
    if (answer.ok || answer.status === 304) lastAnswer = Date.now();
  } catch { /* said below, once it is stale */ }
}

function countDown() {
  for (const timer of list.querySelectorAll("[data-deadline]")) {
    const left = Math.round((Date.parse(timer.dataset.deadline) - Date.now()) / 1000);
    const size = Math.abs(left);
    const clock = `${Math.floor(size / 3600)}:${String(Math.floor(size / 60) % 60).padStart(2, "0")}`;
    timer.classList.toggle("is-soon", left >= 0 && left < SOON_S);
    timer.classList.toggle("is-late", left < 0);
    const text = left < 0 ? `−${clock} ${words.overdue}` : `${clock} h`;
    if (timer.textContent !== text) timer.textContent = text;
  }
}

function sayHowFresh() {
  const isFresh = Date.now() - lastAnswer < STALE_MS;
  freshness.dataset.fresh = String(isFresh);
  const text = isFresh ? words.fresh : words.stale.replace("{n}", Math.round((Date.now() - lastAnswer) / 1000));
  if (freshness.textContent !== text) freshness.textContent = text;
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) act(button.closest("tr").dataset.task, button.dataset.act);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  const row = rowOf(current);
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "Enter" && row && !event.target.closest("a, button")) row.querySelector("a").click();
  else if (event.key === "c" && row?.querySelector('[data-act="claim"]')) act(current, "claim");
  else return;
  event.preventDefault();
});
list.addEventListener("focusin", (event) => {
  const row = event.target.closest("tr[data-task]");
  if (row) mark(row.dataset.task, { focus: false });
});

async function loop() {
  if (!document.hidden) await refresh();
  countDown();
  sayHowFresh();
  setTimeout(loop, INTERVAL_MS);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
countDown();
setTimeout(loop, INTERVAL_MS);
