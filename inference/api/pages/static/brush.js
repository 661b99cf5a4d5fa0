// Drawing a correction: brush and ball, erase, threshold inside the brush, one stroke one undo.

export class Brush {
  /** `page` gives the label in hand, the shown plane and slice, and is told what changed. */
  constructor(volume, viewer, source, page) {
    Object.assign(this, { volume, viewer, source, page });
    this.radiusMm = 5;
    this.isErase = false;
    this.isBall = false;
    this.range = null;      // {low, high}: only voxels with such values are drawn on
    this.pointer = null;
    this.last = null;
  }

  get size() { return this.radiusMm; }

  resize(factor) {
    this.radiusMm = Math.min(60, Math.max(0.5, this.radiusMm * factor));
    this.viewer.draw();
  }

  down(point) {
    if (!point) return;
    this.volume.begin();
    this.last = point;
    this.stamp(point);
    this.viewer.relabel();
  }

  moved(point) {
    if (!point || !this.last) return;
    const { plane } = this.viewer.shown;
    const [rows, columns] = [point.row - this.last.row, point.column - this.last.column];
    const step = Math.max(1, this.radiusMm / Math.max(plane.row_mm, plane.column_mm) / 2);
    const n = Math.max(1, Math.ceil(Math.hypot(rows, columns) / step));
    for (let k = 1; k <= n; k++) {
      this.stamp({ row: Math.round(this.last.row + (rows * k) / n), column: Math.round(this.last.column + (columns * k) / n) });
    }
    this.last = point;
    this.viewer.relabel();
  }

  up() {
    this.last = null;
    this.page.changed(this.volume.end());
  }

  /** Everything within the radius, in millimetres, of the middle of a pixel. */
  stamp({ row, column }) {
    const { plane, index } = this.viewer.shown;
    const reach = this.isBall ? Math.floor(this.radiusMm / plane.slice_mm) : 0;
    for (let offset = -reach; offset <= reach; offset++) {
      const at = index + offset;
      if (at < 0 || at >= plane.n_slices) continue;
      const left2 = this.radiusMm ** 2 - (offset * plane.slice_mm) ** 2;
      if (left2 >= 0) this.disc(plane, at, row, column, left2);
    }
  }

  disc(plane, index, row, column, radius2) {
    const values = this.range ? this.source.peek(plane.plane, index) : null;
    if (this.range && !values) return; // its values are not here, so nothing says what is inside
    const [high, wide] = [Math.sqrt(radius2) / plane.row_mm, Math.sqrt(radius2) / plane.column_mm];
    const label = this.page.label();
    for (let r = Math.max(0, Math.ceil(row - high)); r <= Math.min(plane.height - 1, Math.floor(row + high)); r++) {
      for (let c = Math.max(0, Math.ceil(column - wide)); c <= Math.min(plane.width - 1, Math.floor(column + wide)); c++) {
        if (((r - row) * plane.row_mm) ** 2 + ((c - column) * plane.column_mm) ** 2 > radius2) continue;
        if (values) {
          const value = values[r * plane.width + c];
          if (value < this.range.low || value > this.range.high) continue;
        }
        const voxel = this.volume.at(plane.plane, index, r, c);
        if (!this.isErase) this.volume.set(voxel, label);
        else if (this.volume.data[voxel] === label) this.volume.set(voxel, 0);
      }
    }
  }

  /** The brush's edge under the pointer. */
  draw(context, box, { plane }) {
    if (!this.pointer) return;
    const x = box.left + ((this.pointer.column + 0.5) / plane.width) * box.width;
    const y = box.top + ((this.pointer.row + 0.5) / plane.height) * box.height;
    const scale = box.width / (plane.width * plane.column_mm);
    context.beginPath();
    context.arc(x, y, Math.max(2, this.radiusMm * scale), 0, 2 * Math.PI);
    context.lineWidth = 1.5;
    context.strokeStyle = this.isErase ? "#ff9d8a" : "#ffffff";
    context.setLineDash(this.isBall ? [4, 3] : []);
    context.stroke();
    context.setLineDash([]);
  }
}
