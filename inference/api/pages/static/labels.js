// The label map of a result, whole, in the page: cut in any plane, edited voxel by voxel, undone.
const MOST_UNDO = 100;

export function readLabels(buffer, bytesPerPixel) {
  return bytesPerPixel === 1 ? new Uint8Array(buffer) : new Uint16Array(buffer);
}

/** Axes: slice to the head, row to the back, column to the patient's left. */
export class LabelVolume {
  constructor(data, depth, height, width) {
    if (data.length !== depth * height * width) throw new Error("the labels do not have the series' size");
    Object.assign(this, { data, depth, height, width });
    this.undone = [];
    this.done = [];
    this.open = null;   // the stroke in hand: Map of voxel to its label before
  }

  /** Place in the data of a pixel of the screen. */
  at(plane, index, row, column) {
    const { depth, height, width } = this;
    if (plane === "axial") return ((depth - 1 - index) * height + row) * width + column;
    if (plane === "coronal") return ((depth - 1 - row) * height + index) * width + column;
    return ((depth - 1 - row) * height + column) * width + index;
  }

  cut(plane, index) {
    const { data, depth, height, width } = this;
    const size = height * width;
    if (plane === "axial") return data.subarray((depth - 1 - index) * size, (depth - index) * size);
    const slice = new data.constructor(depth * (plane === "coronal" ? width : height));
    for (let row = 0; row < depth; row++) {
      const from = (depth - 1 - row) * size;
      if (plane === "coronal") slice.set(data.subarray(from + index * width, from + (index + 1) * width), row * width);
      else for (let column = 0; column < height; column++) slice[row * height + column] = data[from + column * width + index];
    }
    return slice;
  }

  /** Index on the screen, in a plane, of the slice that a voxel is on. */
  sliceOf(plane, voxel) {
    if (plane === "axial") return this.depth - 1 - Math.floor(voxel / (this.height * this.width));
    if (plane === "coronal") return Math.floor(voxel / this.width) % this.height;
    return voxel % this.width;
  }

  begin() { this.open ||= new Map(); }

  set(voxel, label) {
    if (this.data[voxel] === label) return;
    if (!this.open.has(voxel)) this.open.set(voxel, this.data[voxel]);
    this.data[voxel] = label;
  }

  /** End a stroke; returns the voxels that it changed. */
  end() {
    const stroke = this.open;
    this.open = null;
    if (!stroke || stroke.size === 0) return [];
    const voxels = Uint32Array.from(stroke.keys());
    const before = this.data.constructor.from(stroke.values());
    const after = this.data.constructor.from(voxels, (voxel) => this.data[voxel]);
    this.done.push({ voxels, before, after });
    if (this.done.length > MOST_UNDO) this.done.shift();
    this.undone = [];
    return voxels;
  }

  undo() { return this.move(this.done, this.undone, "before"); }

  redo() { return this.move(this.undone, this.done, "after"); }

  move(from, to, which) {
    const stroke = from.pop();
    if (!stroke) return [];
    stroke.voxels.forEach((voxel, k) => { this.data[voxel] = stroke[which][k]; });
    to.push(stroke);
    return stroke.voxels;
  }

  /** Replace slices of a plane (a draft that was kept), without a way back. */
  replace(plane, index, slice) {
    const rows = plane === "axial" ? this.height : this.depth;
    const columns = slice.length / rows;
    for (let row = 0, k = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, k++) this.data[this.at(plane, index, row, column)] = slice[k];
    }
  }
}
