// The study page: holds the state, and keeps controls, captions and picture in step with it.
import { drawPresence, paletteOf } from "/static/overlay.js";
import { OtherPlanes } from "/static/planes.js";
import { Prior } from "/static/prior.js";
import { Reviewing } from "/static/review.js";
import { Segments } from "/static/segments.js";
import { SliceSource } from "/static/slices.js";
import { SliceViewer } from "/static/viewer.js";

const view = JSON.parse(document.getElementById("view-data").textContent);
const byId = (id) => document.getElementById(id);
const planes = Object.fromEntries(view.planes.map((plane) => [plane.plane, plane]));

const state = {
  plane: planes[view.first_plane],
  index: { ...view.first_index },
  first: { ...view.first_index },
  window: { center: view.presets[0].center, width: view.presets[0].width },
  isOverlayOn: true,
  isOutline: false,
  opacity: 0.4,
  hidden: new Set(),
  palette: paletteOf(view.segments, new Set()),
};
const source = new SliceSource(view);
const viewer = new SliceViewer(byId("stage"), byId("canvas"), source, change);
const prior = view.prior ? new Prior(view.prior, state, change) : null;
const others = new OtherPlanes(viewer, source, state, planes, { change, refresh });
const segments = new Segments(view, state, { goTo, redraw });
const READ_AHEAD_MS = 1500;
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
  const shown = viewer.show(state);
  shown.then(() => source.prefetch(state.plane.plane, index, state.plane.n_slices, direction));
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
  prior?.follow();
  others.follow();
  return shown;
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
  const name = point && state.isOverlayOn && !state.hidden.has(point.label) ? segments.names.get(point.label) : null;
  byId("corner-point").textContent = point
    ? `${name ? `${name}\n` : ""}${x >= 0 ? "L" : "R"} ${Math.abs(x).toFixed(1)}  ${y >= 0 ? "P" : "A"} ${Math.abs(y).toFixed(1)}  ${z >= 0 ? "S" : "I"} ${Math.abs(z).toFixed(1)} mm`
    : "";
}

function redraw() {
  state.palette = paletteOf(view.segments, state.hidden);
  viewer.draw();
  refresh();
}

function showPlane(name) {
  state.plane = planes[name];
  viewer.reset();
  refresh();
}

function nextWindow() {
  const at = Number(byId("preset").value);
  const preset = view.presets[Number.isInteger(at) ? (at + 1) % view.presets.length : 0];
  state.window = { center: preset.center, width: preset.width };
  refresh();
}

byId("slice").addEventListener("input", (event) => goTo(Number(event.target.value)));
for (const button of document.querySelectorAll("[data-plane]")) button.addEventListener("click", () => showPlane(button.dataset.plane));
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
byId("opacity")?.addEventListener("input", (event) => { state.opacity = Number(event.target.value) / 100; redraw(); });
for (const button of document.querySelectorAll("[data-style]")) {
  button.addEventListener("click", () => { state.isOutline = button.dataset.style === "outline"; redraw(); });
}

const review = view.review ? new Reviewing(view, viewer, source, {
  active: () => segments.active,
  seen: () => ({
    plane: state.plane.plane, index: state.index[state.plane.plane], ...state.window, opacity: state.opacity,
    overlay: state.isOverlayOn, outline: state.isOutline, hidden: [...state.hidden], language: document.documentElement.lang,
  }),
}) : null;

async function copyText() {
  const text = byId("report-text");
  if (!text) return;
  const words = JSON.parse(byId("review-words").textContent);
  try {
    await navigator.clipboard.writeText(text.value);
    byId("review-message").textContent = words.copied;
  } catch { // no secure context, or not allowed: the person copies it
    text.hidden = false;
    text.focus();
    text.select();
    byId("review-message").textContent = words.not_copied;
  }
}
byId("copy")?.addEventListener("click", copyText);
byId("three-planes").addEventListener("click", () => others.toggle());
byId("prior")?.addEventListener("click", () => prior.toggle());
byId("help")?.addEventListener("click", () => byId("help-dialog").showModal());

const zoom = (factor) => viewer.zoomAt(factor, byId("stage").clientWidth / 2, byId("stage").clientHeight / 2);
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
  "+": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: () => viewer.reset(),
  1: () => showPlane("axial"),
  2: () => showPlane("coronal"),
  3: () => showPlane("sagittal"),
  w: nextWindow,
  m: () => others.toggle(),
  v: () => prior?.toggle(),
  n: () => segments.step(1),
  p: () => segments.step(-1),
  h: () => segments.show(segments.active, state.hidden.has(segments.active)),
  "/": () => byId("segment-search")?.focus(),
  c: copyText,
  "?": () => byId("help-dialog")?.showModal(),
  a: () => review?.askAccept(),
  r: () => review?.open("reject-dialog"),
  e: () => review?.toggleDrawing(),
  g: () => byId("next-case")?.click(),
  "[": () => review?.brush?.resize(0.8) ?? review?.showTool(),
  "]": () => review?.brush?.resize(1.25) ?? review?.showTool(),
  x: () => review?.setTool({ isErase: !review.brush?.isErase }),
  b: () => review?.setTool({ isBall: !review.brush?.isBall }),
  t: () => review?.toggleThreshold(),
  i: () => review?.interpolate(),
  z: () => review?.undo(),
  y: () => review?.redo(),
};
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea, dialog");
  if (isTyping || event.altKey) return;
  const isCommand = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (isCommand && !["z", "y"].includes(key)) return;
  // Keys that move focus or press what has it stay theirs; arrows belong to a slider in hand.
  if (key.length > 1 && event.target !== byId("stage") && event.target !== document.body) return;
  const action = isCommand && key === "z" && event.shiftKey ? KEYS.y : KEYS[key];
  if (action) { event.preventDefault(); action(); }
});
window.addEventListener("resize", refresh);
byId("stage").focus({ preventScroll: true });
performance.mark("page-script");
refresh().then(() => {
  performance.mark("first-overlay");
  return source.loadVolume();
}).then(() => {
  viewer.relabel();
  performance.mark("all-labels");
  byId("stage").dataset.labels = "all";
  // The next case is read ahead while this one is looked at.
  if (view.review) setTimeout(() => fetch(`${view.review.next_url}&warm=true`).catch(() => {}), READ_AHEAD_MS);
}).catch((error) => viewer.say(error.message));
