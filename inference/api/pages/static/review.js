// Accept, correct, reject: what the buttons, the dialogs and the keys of the review card do.
import { Brush } from "/static/brush.js";
import { Draft, packed } from "/static/draft.js";
import { readLabels } from "/static/labels.js";

const byId = (id) => document.getElementById(id);

async function problemOf(answer) {
  try { return (await answer.json()).detail; } catch { return `the service answered ${answer.status}`; }
}

export class Reviewing {
  constructor(view, viewer, source, page) {
    Object.assign(this, { view, viewer, source, page });
    this.words = JSON.parse(byId("review-words").textContent);
    this.brush = null;
    this.draft = null;
    this.ready = null;
    this.isBusy = false;
    byId("accept").addEventListener("click", () => this.askAccept());
    byId("reject").addEventListener("click", () => this.open("reject-dialog"));
    byId("accept-form").addEventListener("submit", (event) => { event.preventDefault(); this.decide("accept"); });
    byId("reject-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const form = new FormData(event.target);
      this.decide("reject", form.get("reason"), form.get("comment"));
    });
    byId("draw").addEventListener("click", () => this.toggleDrawing());
    byId("discard").addEventListener("click", () => this.discard());
    byId("undo").addEventListener("click", () => this.undo());
    byId("redo").addEventListener("click", () => this.redo());
    byId("fill-between").addEventListener("click", () => this.interpolate());
    byId("erase").addEventListener("click", () => this.setTool({ isErase: !this.brush?.isErase }));
    byId("ball").addEventListener("click", () => this.setTool({ isBall: !this.brush?.isBall }));
    byId("threshold").addEventListener("click", () => this.toggleThreshold());
    byId("brush-size").addEventListener("input", (event) => { if (this.brush) { this.brush.radiusMm = Number(event.target.value); this.showTool(); viewer.draw(); } });
    for (const id of ["range-low", "range-high"]) byId(id).addEventListener("change", () => this.readRange());
    for (const button of document.querySelectorAll("dialog [data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
    window.addEventListener("beforeunload", (event) => { if (this.draft?.waiting.size) event.preventDefault(); });
    if (view.review.n_draft_slices) this.prepare().catch((error) => this.say(error.message, true));
  }

  /** The labels and the kept draft, once; then a correction can be drawn. */
  prepare() {
    this.ready ||= (async () => {
      const volume = await this.source.loadVolume();
      this.draft = new Draft(this.view.review.draft_url, volume, this.view.first_plane, this.view.review.overlay_sha256,
        (kind, text) => this.sayDraft(kind, text));
      const n = await this.draft.load((buffer) => readLabels(buffer, this.view.label_bytes));
      if (n) { this.viewer.relabel(); this.sayDraft("saved", ""); }
      return volume;
    })();
    this.ready.catch(() => { this.ready = null; });
    return this.ready;
  }

  async toggleDrawing() {
    if (this.viewer.tool) { this.viewer.tool = null; this.showTool(); this.viewer.draw(); return; }
    this.say(this.words.loading);
    const volume = await this.prepare().catch((error) => { this.say(error.message, true); return null; });
    if (!volume) return;
    this.say("");
    this.brush ||= new Brush(volume, this.viewer, this.source, {
      label: () => this.page.active(),
      changed: (voxels) => { this.draft.touch(voxels); this.showTool(); },
    });
    this.viewer.tool = this.brush;
    this.showTool();
    this.viewer.draw();
  }

  setTool(patch) {
    if (!this.brush || !this.viewer.tool) return;
    Object.assign(this.brush, patch);
    this.showTool();
    this.viewer.draw();
  }

  toggleThreshold() {
    if (!this.brush || !this.viewer.tool) return;
    this.brush.range = this.brush.range ? null : { low: Number(byId("range-low").value), high: Number(byId("range-high").value) };
    this.showTool();
  }

  readRange() { if (this.brush?.range) this.brush.range = { low: Number(byId("range-low").value), high: Number(byId("range-high").value) }; }

  showTool() {
    const isOn = this.viewer.tool !== null;
    byId("draw").setAttribute("aria-pressed", String(isOn));
    byId("drawing").hidden = !isOn;
    byId("stage").classList.toggle("is-drawing", isOn);
    if (!this.brush) return;
    byId("erase").setAttribute("aria-pressed", String(this.brush.isErase));
    byId("ball").setAttribute("aria-pressed", String(this.brush.isBall));
    byId("threshold").setAttribute("aria-pressed", String(this.brush.range !== null));
    byId("range").hidden = this.brush.range === null;
    byId("brush-size").value = String(this.brush.radiusMm);
    byId("brush-mm").textContent = `${this.brush.radiusMm.toFixed(1)} mm`;
    byId("undo").disabled = this.brush.volume.done.length === 0;
    byId("redo").disabled = this.brush.volume.undone.length === 0;
  }

  undo() { this.moved(this.brush?.volume.undo()); }

  redo() { this.moved(this.brush?.volume.redo()); }

  moved(voxels) {
    if (!voxels?.length) return;
    this.draft.touch(voxels);
    this.viewer.relabel();
    this.showTool();
  }

  /** Fill the slices between the nearest drawn ones above and below the shown slice. */
  async interpolate() {
    if (!this.viewer.tool || !this.viewer.shown) return;
    const { plane, index } = this.viewer.shown;
    const [label, volume] = [this.page.active(), this.brush.volume];
    const has = (at) => this.draft.slices.has(at) && volume.cut(plane.plane, at).includes(label);
    let [first, last] = [index - 1, index + 1];
    while (first >= 0 && !has(first)) first--;
    while (last < plane.n_slices && !has(last)) last++;
    if (plane.plane !== this.view.first_plane || first < 0 || last >= plane.n_slices) { this.say(this.words.no_between, true); return; }
    const mask = (at) => packed(Uint8Array.from(volume.cut(plane.plane, at), (value) => (value === label ? 1 : 0)));
    const answer = await fetch("/v1/views/interpolation", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ height: plane.height, width: plane.width, row_mm: plane.row_mm, column_mm: plane.column_mm, n_between: last - first - 1, first: await mask(first), last: await mask(last) }),
    });
    if (!answer.ok) { this.say(await problemOf(answer), true); return; }
    const found = new Uint8Array(await answer.arrayBuffer());
    volume.begin();
    for (let k = 0, i = 0; k < last - first - 1; k++) {
      for (let row = 0; row < plane.height; row++) {
        for (let column = 0; column < plane.width; column++, i++) {
          const voxel = volume.at(plane.plane, first + 1 + k, row, column);
          if (found[i]) volume.set(voxel, label);
          else if (volume.data[voxel] === label) volume.set(voxel, 0);
        }
      }
    }
    this.moved(volume.end());
    this.say("");
  }

  async discard() {
    if (!this.draft || !window.confirm(this.words.discard)) return;
    try { this.draft.waiting.clear(); await this.draft.discard(); location.reload(); } catch (error) { this.say(error.message, true); }
  }

  open(id) { if (!byId(id).open) byId(id).showModal(); }

  askAccept() {
    const n = this.draft?.slices.size ?? 0;
    byId("accept-what").textContent = n ? this.words.accept_corrected.replace("{n}", n) : this.words.accept_shown;
    this.open("accept-dialog");
  }

  async decide(decision, reason = "", comment = "") {
    if (this.isBusy) return;
    this.isBusy = true;
    this.say(this.words.saving);
    try {
      await this.draft?.save();
      const answer = await fetch(this.view.review.decision_url, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ decision, reason, comment: comment || "", shown: this.shown() }),
      });
      if (!answer.ok) throw new Error(await problemOf(answer));
      const next = await fetch(this.view.review.next_url);
      location.assign(next.ok ? (await next.json()).url : "/");
    } catch (error) {
      this.isBusy = false;
      for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
      this.say(error.message, true);
    }
  }

  shown() {
    return {
      result_sha256: this.view.review.result_sha256,
      overlay_sha256: this.draft?.stamp ?? this.view.review.overlay_sha256,
      page_version: this.view.review.page_version,
      view: this.page.seen(),
    };
  }

  say(text, isProblem = false) {
    byId("review-message").textContent = text;
    byId("review-message").classList.toggle("problem", isProblem && Boolean(text));
  }

  sayDraft(kind, text) {
    const n = this.draft?.slices.size ?? 0;
    byId("draft-state").dataset.kind = kind;
    byId("draft-state").textContent = `${this.words[kind].replace("{n}", n)} ${text}`.trim();
    byId("discard").hidden = n === 0;
  }
}
