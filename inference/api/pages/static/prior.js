// The prior beside the current study: the same plane, window and segments, scrolled along in mm.
import { paletteOf } from "/static/overlay.js";
import { SliceSource } from "/static/slices.js";
import { SliceViewer } from "/static/viewer.js";

export class Prior {
  /** `main` is the page's state; `onChange` is the page's, so that scrolling here scrolls both. */
  constructor(offer, main, onChange) {
    Object.assign(this, { offer, main, onChange });
    this.viewer = null;
    this.isOn = false;
  }

  async toggle() {
    this.isOn = !this.isOn;
    document.getElementById("stages").classList.toggle("has-prior", this.isOn);
    document.getElementById("prior-stage").hidden = !this.isOn;
    document.getElementById("prior").setAttribute("aria-pressed", String(this.isOn));
    if (this.isOn && !this.viewer) await this.load();
    this.follow();
  }

  async load() {
    const stage = document.getElementById("prior-stage");
    const answer = await fetch(this.offer.url);
    if (!answer.ok) {
      stage.querySelector(".stage-message").textContent = `The prior cannot be shown: ${(await answer.json()).detail ?? answer.status}`;
      stage.querySelector(".stage-message").hidden = false;
      return;
    }
    this.view = await answer.json();
    this.planes = Object.fromEntries(this.view.planes.map((plane) => [plane.plane, plane]));
    this.source = new SliceSource(this.view);
    this.viewer = new SliceViewer(stage, stage.querySelector("canvas"), this.source, (patch) => { if (!("point" in patch)) this.onChange(patch); });
    this.anchor = { ...this.main.first };
    this.source.loadVolume().then(() => this.viewer.relabel()).catch((error) => this.viewer.say(error.message));
  }

  /** Show what lies as many millimetres from the fullest slice as the current study does. */
  follow() {
    if (!this.isOn || !this.viewer) return;
    const { main } = this;
    const name = main.plane.plane;
    const plane = this.planes[name];
    const moved = ((main.index[name] - main.first[name]) * main.plane.slice_mm) / plane.slice_mm;
    const index = Math.min(plane.n_slices - 1, Math.max(0, Math.round(this.view.first_index[name] + moved)));
    const state = {
      plane, index: { [name]: index }, window: main.window, isOverlayOn: main.isOverlayOn, isOutline: main.isOutline,
      opacity: main.opacity, palette: paletteOf(this.view.segments, main.hidden),
    };
    this.viewer.show(state);
    document.getElementById("prior-slice").textContent = `${index + 1} / ${plane.n_slices}`;
  }
}
