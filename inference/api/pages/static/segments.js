// The table of segments: search, show, hide, colour, and the one in hand. 104 rows stay usable.

export class Segments {
  constructor(view, state, page) {
    Object.assign(this, { view, state, page });
    this.rows = new Map([...document.querySelectorAll("tr[data-label]")].map((row) => [Number(row.dataset.label), row]));
    this.names = new Map(view.segments.map((segment) => [segment.label, segment.name]));
    this.active = view.segments[0]?.label ?? 0;
    for (const [label, row] of this.rows) this.listen(label, row);
    const search = document.getElementById("segment-search");
    search?.addEventListener("input", () => this.filter(search.value));
    search?.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { const [first] = this.listed(); if (first) this.go(first); }
      if (event.key === "Escape") { search.value = ""; this.filter(""); document.getElementById("stage").focus(); }
    });
    document.getElementById("show-all")?.addEventListener("click", () => this.showOnly(this.listed(), true));
    document.getElementById("hide-all")?.addEventListener("click", () => this.showOnly(this.listed(), false));
    this.mark();
  }

  listen(label, row) {
    row.querySelector(".segment-shown").addEventListener("change", (event) => this.show(label, event.target.checked));
    row.querySelector(".segment-go").addEventListener("click", (event) => {
      if (event.altKey) { this.showOnly([...this.rows.keys()], false); this.show(label, true); }
      this.go(label);
    });
    row.querySelector(".segment-color").addEventListener("input", (event) => {
      const segment = this.view.segments.find((one) => one.label === label);
      segment.color_rgb = [1, 3, 5].map((at) => parseInt(event.target.value.slice(at, at + 2), 16));
      this.page.redraw();
    });
  }

  listed() { return [...this.rows].filter(([, row]) => !row.hidden).map(([label]) => label); }

  filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [label, row] of this.rows) {
      const name = this.names.get(label).toLowerCase();
      row.hidden = !words.every((word) => name.includes(word));
    }
    const count = document.getElementById("segment-count");
    if (count) count.textContent = `${this.listed().length} / ${this.rows.size}`;
  }

  show(label, isShown) {
    this.toggle(label, isShown);
    this.page.redraw();
  }

  toggle(label, isShown) {
    if (isShown) this.state.hidden.delete(label); else this.state.hidden.add(label);
    const row = this.rows.get(label);
    row.classList.toggle("is-hidden", !isShown);
    row.querySelector(".segment-shown").checked = isShown;
  }

  showOnly(labels, isShown) {
    for (const label of labels) this.toggle(label, isShown);
    this.page.redraw();
  }

  /** Jump to where a segment is largest, and take it in hand. */
  go(label) {
    this.active = label;
    this.mark();
    const where = this.view.segments.find((one) => one.label === label)?.presence[this.state.plane.plane];
    if (where?.largest !== undefined) this.page.goTo(where.largest);
  }

  step(by) {
    const labels = this.listed();
    if (!labels.length) return;
    const at = labels.indexOf(this.active);
    this.go(labels[(at + by + labels.length) % labels.length]);
  }

  mark() {
    for (const [label, row] of this.rows) row.classList.toggle("is-active", label === this.active);
    this.rows.get(this.active)?.scrollIntoView({ block: "nearest" });
    const name = document.getElementById("active-name");
    if (name) name.textContent = this.names.get(this.active) ?? "";
  }
}
