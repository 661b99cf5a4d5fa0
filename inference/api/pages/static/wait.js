// While a study is not finished: reload the page when its stamp changes.
const main = document.getElementById("main");
async function look() {
  try {
    const answer = await fetch(main.dataset.wait, { signal: AbortSignal.timeout(5000) });
    if (answer.ok && (await answer.text()) !== main.dataset.stamp) { location.reload(); return; }
  } catch { /* the service is away; keep asking */ }
  setTimeout(look, 1500);
}
setTimeout(look, 1500);
