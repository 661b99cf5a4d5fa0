// The two other planes under the shown one; a click in any of the three moves the point of all.
import { SliceViewer } from "/static/viewer.js";

const ORDER = ["axial", "coronal", "sagittal"];
/** Which planes' slices a pixel's row and column are, in each plane of the screen. */
const ACROSS = { axial: ["coronal", "sagittal"], coronal: ["axial", "sagittal"], sagittal: ["axial", "coronal"] };

export class OtherPlanes {
  constructor(main, source, state, planes, page) {
    Object.assign(this, { main, source, state, planes, page });
    this.isOn = false;
    this.stages = [...document.querySelectorAll(".other-plane")];
    this.viewers = this.stages.map((stage, at) => {
      const viewer = new SliceViewer(stage, stage.querySelector("canvas"), source, (patch) => this.changed(at, patch));
      viewer.decorate = (context, box, shown) => this.cross(context, box, shown);
      stage.addEventListener("click", (event) => this.clicked(viewer, event));
      return viewer;
    });
    main.decorate = (context, box, shown) => { if (this.isOn && !main.tool) this.cross(context, box, shown); };
    main.stage.addEventListener("click", (event) => { if (this.isOn && !main.tool) this.clicked(main, event); });
  }

  names() { return ORDER.filter((name) => name !== this.state.plane.plane); }

  toggle() {
    this.isOn = !this.isOn;
    document.getElementById("other-planes").hidden = !this.isOn;
    document.getElementById("three-planes").setAttribute("aria-pressed", String(this.isOn));
    this.main.also = this.isOn ? this.viewers : [];
    this.main.draw();
    this.follow();
  }

  follow() {
    if (!this.isOn) return;
    this.names().forEach((name, at) => {
      const plane = this.planes[name];
      this.viewers[at].show({ ...this.state, plane });
      this.stages[at].querySelector(".corner-tl").textContent = `${name} ${this.state.index[name] + 1} / ${plane.n_slices}`;
      for (const [edge, letter] of Object.entries(plane.letters)) this.stages[at].querySelector(`.edge-${edge}`).textContent = letter;
    });
  }

  changed(at, patch) {
    if ("window" in patch) this.page.change(patch);
    if ("by" in patch) this.move({ [this.names()[at]]: this.state.index[this.names()[at]] + patch.by });
  }

  clicked(viewer, event) {
    if (viewer.wasDragged) return;
    const rect = viewer.stage.getBoundingClientRect();
    const pixel = viewer.pixelAt(event.clientX - rect.left, event.clientY - rect.top);
    if (!pixel) return;
    const [down, right] = ACROSS[viewer.shown.plane.plane];
    this.move({ [down]: pixel.row, [right]: pixel.column });
  }

  move(indices) {
    for (const [name, index] of Object.entries(indices)) {
      this.state.index[name] = Math.min(this.planes[name].n_slices - 1, Math.max(0, index));
    }
    this.page.refresh();
  }

  cross(context, box, { plane }) {
    const [down, right] = ACROSS[plane.plane].map((name) => this.state.index[name] + 0.5);
    const [x, y] = [box.left + (right / plane.width) * box.width, box.top + (down / plane.height) * box.height];
    context.strokeStyle = "#7fd0e0aa";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(box.left, y);
    context.lineTo(box.left + box.width, y);
    context.moveTo(x, box.top);
    context.lineTo(x, box.top + box.height);
    context.stroke();
  }
}
