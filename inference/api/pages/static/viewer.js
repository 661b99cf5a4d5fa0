// Draws one slice with its overlay on a canvas, and turns wheel, keys and drags into changes.
import { greyTable, paint, paintValues } from "/static/overlay.js";

const MARGIN = 8;
const DRAG_START_PX = 3;

export class SliceViewer {
  /** `state` is owned by the page; `onChange(patch)` asks for a change of it. */
  constructor(stage, canvas, source, onChange) {
    this.stage = stage;
    this.canvas = canvas;
    this.source = source;
    this.onChange = onChange;
    this.shown = null;      // the last slice drawn: {plane, index, picture, labels}
    this.zoom = 1;
    this.shift = [0, 0];    // of the picture, in CSS pixels
    this.overlayCanvas = document.createElement("canvas");
    this.pictureCanvas = document.createElement("canvas");
    this.table = { key: "", grey: null };
    this.also = [];         // other viewers of the same labels
    this.decorate = null;   // draws over the picture
    this.wasDragged = false;
    this.tool = null;       // what takes over drags while a correction is drawn
    this.request = 0;
    this.listen();
    new ResizeObserver(() => this.draw()).observe(stage);
  }

  /** Show what the state says; a newer call overtakes an older one that still waits. */
  async show(state) {
    const request = ++this.request;
    this.state = state;
    const index = state.index[state.plane.plane];
    try {
      const { plane } = state.plane;
      const peeked = this.source.peek(plane, index);
      const known = peeked && (this.source.volume || !this.source.view.labels_url);
      const [values, labels] = known
        ? [peeked, this.source.labelsOf(plane, index)]  // all here: drawn in the same frame
        : await Promise.all([this.source.values(plane, index), this.source.labelsOf(plane, index)]);
      if (request !== this.request) return;
      this.shown = { plane: state.plane, index, values, labels };
      this.say("");
      this.draw();
    } catch (error) {
      if (request === this.request) this.say(error.message);
    }
  }

  say(text) {
    const message = this.stage.querySelector(".stage-message");
    message.textContent = text;
    message.hidden = !text;
  }

  /** Where the picture lies on the stage, in CSS pixels. */
  place(plane) {
    const width = plane.width * plane.column_mm;
    const height = plane.height * plane.row_mm;
    const fit = Math.min((this.stage.clientWidth - 2 * MARGIN) / width, (this.stage.clientHeight - 2 * MARGIN) / height);
    const scale = Math.max(1e-6, fit * this.zoom); // CSS pixels per mm
    return {
      left: (this.stage.clientWidth - width * scale) / 2 + this.shift[0],
      top: (this.stage.clientHeight - height * scale) / 2 + this.shift[1],
      width: width * scale,
      height: height * scale,
    };
  }

  draw() {
    const { shown, state, canvas } = this;
    if (!shown || !state) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.stage.clientWidth * ratio), Math.round(this.stage.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const box = this.place(shown.plane);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture(), box.left, box.top, box.width, box.height);
    if (shown.labels && state.isOverlayOn) {
      const painted = paint(shown.labels, shown.plane.width, shown.plane.height, state.palette, state.isOutline);
      this.overlayCanvas.width = shown.plane.width;
      this.overlayCanvas.height = shown.plane.height;
      this.overlayCanvas.getContext("2d").putImageData(painted, 0, 0);
      context.imageSmoothingEnabled = false;
      context.globalAlpha = state.isOutline ? Math.min(1, 2.5 * state.opacity) : state.opacity;
      context.drawImage(this.overlayCanvas, box.left, box.top, box.width, box.height);
      context.globalAlpha = 1;
    }
    this.tool?.draw(context, box, shown);
    this.decorate?.(context, box, shown);
    this.stage.dataset.shown = `${shown.plane.plane}/${shown.index}`;
    this.stage.dataset.box = JSON.stringify(box);
    this.stage.dataset.drawn = String(Number(this.stage.dataset.drawn || 0) + 1);
  }

  /** The slice as grey pixels; drawn anew only when slice or window changed. */
  picture() {
    const { shown, state, pictureCanvas } = this;
    const key = `${state.window.center}/${state.window.width}`;
    if (this.table.key !== key) this.table = { key, grey: greyTable(state.window) };
    if (this.painted?.values === shown.values && this.painted.key === key) return pictureCanvas;
    pictureCanvas.width = shown.plane.width;
    pictureCanvas.height = shown.plane.height;
    pictureCanvas.getContext("2d").putImageData(
      paintValues(shown.values, shown.plane.width, shown.plane.height, state.window, this.table.grey), 0, 0);
    this.painted = { values: shown.values, key };
    return pictureCanvas;
  }

  /** Labels were edited: cut the shown slice anew and draw. */
  relabel() {
    this.also.forEach((other) => other.relabel());
    if (!this.shown || !this.source.volume) return;
    this.shown.labels = this.source.volume.cut(this.shown.plane.plane, this.shown.index);
    this.draw();
  }

  reset() {
    this.zoom = 1;
    this.shift = [0, 0];
    this.draw();
  }

  zoomAt(factor, x, y) {
    if (!this.shown) return;
    const before = this.place(this.shown.plane);
    this.zoom = Math.min(16, Math.max(1, this.zoom * factor));
    if (this.zoom === 1) { this.reset(); return; }
    const after = this.place(this.shown.plane);
    this.shift[0] += x - after.left - ((x - before.left) / before.width) * after.width;
    this.shift[1] += y - after.top - ((y - before.top) / before.height) * after.height;
    this.draw();
  }

  /** The pixel under a point of the stage, or null outside of the picture. */
  pixelAt(x, y, isOutsideTaken = false) {
    if (!this.shown) return null;
    const { plane, labels, index } = this.shown;
    const box = this.place(plane);
    const column = Math.floor(((x - box.left) / box.width) * plane.width);
    const row = Math.floor(((y - box.top) / box.height) * plane.height);
    if (!isOutsideTaken && (column < 0 || row < 0 || column >= plane.width || row >= plane.height)) return null;
    const lps = [0, 1, 2].map((axis) => plane.origin_lps_mm[axis] + index * plane.slice_step_lps_mm[axis]
      + row * plane.row_step_lps_mm[axis] + column * plane.column_step_lps_mm[axis]);
    return { row, column, lps, label: labels ? labels[row * plane.width + column] : 0 };
  }

  listen() {
    const { stage } = this;
    let wheelRest = 0;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const rect = stage.getBoundingClientRect();
      if (event.ctrlKey) {
        this.zoomAt(Math.exp(-event.deltaY / 300), event.clientX - rect.left, event.clientY - rect.top);
        return;
      }
      // A mouse notch is one slice; a touch pad's many small deltas add up to one.
      wheelRest += event.deltaMode === 0 ? event.deltaY / 60 : event.deltaY;
      const steps = Math.abs(event.deltaY) >= 60 || event.deltaMode !== 0 ? Math.sign(event.deltaY) : Math.trunc(wheelRest);
      if (steps !== 0) { wheelRest = 0; this.onChange({ by: steps }); }
    }, { passive: false });

    let drag = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      this.wasDragged = false;
      const isMove = event.shiftKey || event.button === 1;
      if (this.tool && !isMove && event.button === 0) {
        const rect = stage.getBoundingClientRect();
        drag = { kind: "tool" };
        stage.setPointerCapture(event.pointerId);
        stage.focus({ preventScroll: true });
        event.preventDefault();
        this.tool.down(this.pixelAt(event.clientX - rect.left, event.clientY - rect.top));
        return;
      }
      const kind = isMove ? "move" : event.pointerType === "touch" ? "scroll" : "window";
      drag = { kind, x: event.clientX, y: event.clientY, window: { ...this.state.window }, shift: [...this.shift], far: false, rest: 0 };
      stage.setPointerCapture(event.pointerId);
      stage.focus({ preventScroll: true });
      event.preventDefault();
    });
    stage.addEventListener("pointermove", (event) => {
      const rect = stage.getBoundingClientRect();
      if (this.tool) this.tool.pointer = this.pixelAt(event.clientX - rect.left, event.clientY - rect.top, true);
      if (drag?.kind === "tool") { this.tool.moved(this.tool.pointer); return; }
      if (this.tool && !drag) this.draw();
      if (!drag) { this.onChange({ point: this.pixelAt(event.clientX - rect.left, event.clientY - rect.top) }); return; }
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.far && Math.hypot(dx, dy) < DRAG_START_PX) return;
      drag.far = true;
      this.wasDragged = true;
      if (drag.kind === "move") {
        this.shift = [drag.shift[0] + dx, drag.shift[1] + dy];
        this.draw();
      } else if (drag.kind === "scroll") {
        const steps = Math.trunc((dy - drag.rest) / 12);
        if (steps) { drag.rest += steps * 12; this.onChange({ by: steps }); }
      } else {
        const step = drag.window.width / 300; // the whole width in 300 pixels
        this.onChange({ window: {
          center: drag.window.center + dy * step,
          width: Math.max(step, drag.window.width + dx * step * 2),
        } });
      }
    });
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { if (drag?.kind === "tool") this.tool?.up(); drag = null; });
    stage.addEventListener("pointerleave", () => this.onChange({ point: null }));
    stage.addEventListener("dblclick", () => this.reset());
  }
}
