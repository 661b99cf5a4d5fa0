// The study page: holds the state, and keeps controls, captions and picture in step with it.
import { drawPresence, paletteOf } from "/static/overlay.js";
import { SliceSource } from "/static/slices.js";
import { SliceViewer } from "/static/viewer.js";

const view = JSON.parse(document.getElementById("view-data").textContent);
const byId = (id) => document.getElementById(id);
const planes = Object.fromEntries(view.planes.map((plane) => [plane.plane, plane]));
const names = new Map(view.segments.map((segment) => [segment.label, segment.name]));

const state = {
  plane: planes[view.first_plane],
  index: { ...view.first_index },
  window: { center: view.presets[0].center, width: view.presets[0].width },
  isOverlayOn: true,
  isOutline: false,
  opacity: 0.4,
  hidden: new Set(),
  palette: paletteOf(view.segments, new Set()),
};
const source = new SliceSource(view);
const viewer = new SliceViewer(byId("stage"), byId("canvas"), source, change);
let direction = 1;

/** The one place where the state changes. */
function change(patch) {
  if ("point" in patch) { sayPoint(patch.point); return; }
  if ("by" in patch) goTo(state.index[state.plane.plane] + patch.by);
  if ("window" in patch) { state.window = rounded(patch.window); refresh(); }
}

function goTo(index) {
  const last = state.plane.n_slices - 1;
  const bounded = Math.min(last, Math.max(0, index));
  direction = bounded < state.index[state.plane.plane] ? -1 : 1;
  state.index[state.plane.plane] = bounded;
  refresh();
}

function rounded({ center, width }) {
  const digits = width >= 20 ? 0 : Math.min(6, 2 - Math.floor(Math.log10(Math.max(width, 1e-6))));
  return { center: Number(center.toFixed(digits)), width: Math.max(10 ** -digits, Number(width.toFixed(digits))) };
}

function refresh() {
  const index = state.index[state.plane.plane];
  viewer.show(state).then(() => source.prefetch(state.plane.plane, index, state.plane.n_slices, state.window, direction));
  const slider = byId("slice");
  slider.max = String(state.plane.n_slices - 1);
  slider.value = String(index);
  slider.setAttribute("aria-valuetext", `slice ${index + 1} of ${state.plane.n_slices}`);
  for (const [edge, letter] of Object.entries(state.plane.letters)) document.querySelector(`[data-edge=${edge}]`).textContent = letter;
  byId("corner-slice").textContent = `${index + 1} / ${state.plane.n_slices}\n${positionText(index)}${state.plane.is_acquired ? "" : "\nreformatted"}`;
  byId("corner-window").textContent = `C ${state.window.center}  W ${state.window.width}${view.unit ? ` ${view.unit}` : ""}`;
  if (document.activeElement !== byId("center")) byId("center").value = String(state.window.center);
  if (document.activeElement !== byId("width")) byId("width").value = String(state.window.width);
  const preset = view.presets.findIndex((known) => known.center === state.window.center && known.width === state.window.width);
  byId("preset").value = preset < 0 ? "own" : String(preset);
  for (const button of document.querySelectorAll("[data-plane]")) button.setAttribute("aria-pressed", String(button.dataset.plane === state.plane.plane));
  for (const button of document.querySelectorAll("[data-style]")) button.setAttribute("aria-pressed", String((button.dataset.style === "outline") === state.isOutline));
  if (byId("overlay")) byId("overlay").checked = state.isOverlayOn;
  drawPresence(byId("presence"), view.segments, state.plane.plane, state.plane.n_slices, index, state.hidden);
}

/** The slice's place along its main axis, as PACS viewers say it. */
function positionText(index) {
  const step = state.plane.slice_step_lps_mm;
  const axis = [0, 1, 2].reduce((best, next) => (Math.abs(step[next]) > Math.abs(step[best]) ? next : best), 0);
  const value = state.plane.origin_lps_mm[axis] + index * step[axis];
  const letter = [["R", "L"], ["A", "P"], ["I", "S"]][axis][value >= 0 ? 1 : 0];
  return `${letter} ${Math.abs(value).toFixed(1)} mm`;
}

function sayPoint(point) {
  const [x, y, z] = point ? point.lps : [];
  const name = point && state.isOverlayOn && !state.hidden.has(point.label) ? names.get(point.label) : null;
  byId("corner-point").textContent = point
    ? `${name ? `${name}\n` : ""}${x >= 0 ? "L" : "R"} ${Math.abs(x).toFixed(1)}  ${y >= 0 ? "P" : "A"} ${Math.abs(y).toFixed(1)}  ${z >= 0 ? "S" : "I"} ${Math.abs(z).toFixed(1)} mm`
    : "";
}

function redraw() {
  state.palette = paletteOf(view.segments, state.hidden);
  viewer.draw();
  refresh();
}

byId("slice").addEventListener("input", (event) => goTo(Number(event.target.value)));
for (const button of document.querySelectorAll("[data-plane]")) {
  button.addEventListener("click", () => { state.plane = planes[button.dataset.plane]; viewer.reset(); refresh(); });
}
byId("preset").addEventListener("change", (event) => {
  const preset = view.presets[Number(event.target.value)];
  if (preset) { state.window = { center: preset.center, width: preset.width }; refresh(); }
});
for (const id of ["center", "width"]) {
  byId(id).addEventListener("change", () => {
    const [center, width] = [Number(byId("center").value), Number(byId("width").value)];
    if (Number.isFinite(center) && width > 0) { state.window = { center, width }; refresh(); }
  });
}
byId("overlay")?.addEventListener("change", (event) => { state.isOverlayOn = event.target.checked; redraw(); });
byId("opacity")?.addEventListener("input", (event) => { state.opacity = Number(event.target.value) / 100; viewer.draw(); });
for (const button of document.querySelectorAll("[data-style]")) {
  button.addEventListener("click", () => { state.isOutline = button.dataset.style === "outline"; redraw(); });
}
for (const row of document.querySelectorAll("tr[data-label]")) {
  const label = Number(row.dataset.label);
  row.querySelector(".segment-shown").addEventListener("change", (event) => {
    if (event.target.checked) state.hidden.delete(label); else state.hidden.add(label);
    row.classList.toggle("is-hidden", !event.target.checked);
    redraw();
  });
  row.querySelector(".segment-go").addEventListener("click", () => {
    const where = view.segments.find((segment) => segment.label === label)?.presence[state.plane.plane];
    if (where?.largest !== undefined) goTo(where.largest);
  });
}

const KEYS = {
  ArrowUp: () => goTo(state.index[state.plane.plane] - 1),
  ArrowDown: () => goTo(state.index[state.plane.plane] + 1),
  ArrowLeft: () => goTo(state.index[state.plane.plane] - 1),
  ArrowRight: () => goTo(state.index[state.plane.plane] + 1),
  PageUp: () => goTo(state.index[state.plane.plane] - 10),
  PageDown: () => goTo(state.index[state.plane.plane] + 10),
  Home: () => goTo(0),
  End: () => goTo(state.plane.n_slices - 1),
  o: () => { state.isOverlayOn = !state.isOverlayOn; redraw(); },
  f: () => { state.isOutline = !state.isOutline; redraw(); },
  "+": () => viewer.zoomAt(1.25, byId("stage").clientWidth / 2, byId("stage").clientHeight / 2),
  "-": () => viewer.zoomAt(0.8, byId("stage").clientWidth / 2, byId("stage").clientHeight / 2),
  0: () => viewer.reset(),
};
byId("stage").addEventListener("keydown", (event) => {
  const action = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action) { event.preventDefault(); action(); }
});
window.addEventListener("resize", refresh);
byId("stage").focus({ preventScroll: true });
refresh();
