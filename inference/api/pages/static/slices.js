// Fetches slices of values in blocks and keeps the last ones within a bound; labels as one volume.
import { LabelVolume, readLabels } from "/static/labels.js";

const MAX_VALUE_BYTES = 200 * 2 ** 20;
const BLOCK = 8;        // slices in one request
const BLOCKS_AHEAD = 3;

async function checked(answer) {
  if (answer.ok) return answer;
  if (answer.status === 401) { location.reload(); }
  let detail = `the service answered ${answer.status}`;
  try { detail = (await answer.json()).detail || detail; } catch { /* no problem body */ }
  throw new Error(detail);
}

export class SliceSource {
  constructor(view) {
    this.view = view;
    this.blocks = new Map();      // "plane/first/count" to {promise, bytes, slices}
    this.firstLabels = new Map(); // slices of labels fetched before the volume was here
    this.volume = null;
    this.loading = null;
    this.planes = Object.fromEntries(view.planes.map((plane) => [plane.plane, plane]));
  }

  /** Values of one slice, row by row; a slice not known yet comes alone, at once. */
  values(plane, index) {
    const first = Math.floor(index / BLOCK) * BLOCK;
    const block = this.blocks.get(`${plane}/${first}`);
    if (block) { this.touch(`${plane}/${first}`, block); return block.promise.then((slices) => slices[index - first]); }
    const single = this.blocks.get(`${plane}/${index}!`);
    return (single || this.fetchBlock(`${plane}/${index}!`, plane, index, 1)).promise.then((slices) => slices[0]);
  }

  /** The values if they are here already, else null. */
  peek(plane, index) {
    const first = Math.floor(index / BLOCK) * BLOCK;
    return this.blocks.get(`${plane}/${first}`)?.slices?.[index - first] ?? this.blocks.get(`${plane}/${index}!`)?.slices?.[0] ?? null;
  }

  touch(key, block) { this.blocks.delete(key); this.blocks.set(key, block); }

  fetchBlock(key, plane, first, count) {
    const { height, width } = this.planes[plane];
    const block = { bytes: 0, slices: null, promise: null };
    block.promise = (async () => {
      const answer = await checked(await fetch(`${this.view.pictures_url}/${plane}/values?first=${first}&count=${count}`));
      const buffer = await answer.arrayBuffer();
      const all = this.view.value_type === "int16" ? new Int16Array(buffer) : new Float32Array(buffer);
      const size = height * width;
      block.bytes = buffer.byteLength;
      block.slices = Array.from({ length: all.length / size }, (_, k) => all.subarray(k * size, (k + 1) * size));
      this.shrink();
      return block.slices;
    })();
    block.promise.catch(() => this.blocks.delete(key));
    this.blocks.set(key, block);
    return block;
  }

  shrink() {
    let total = 0;
    for (const block of this.blocks.values()) total += block.bytes;
    for (const [key, block] of this.blocks) {
      if (total <= MAX_VALUE_BYTES) break;
      if (block.slices) { this.blocks.delete(key); total -= block.bytes; }
    }
  }

  labelsOf(plane, index) {
    if (!this.view.labels_url) return null;
    if (this.volume) return this.volume.cut(plane, index);
    const key = `${plane}/${index}`;
    let found = this.firstLabels.get(key);
    if (!found) {
      found = fetch(`${this.view.labels_url}/${key}`).then(checked)
        .then(async (answer) => readLabels(await answer.arrayBuffer(), this.view.label_bytes));
      found.catch(() => this.firstLabels.delete(key));
      this.firstLabels.set(key, found);
    }
    return found;
  }

  /** Fetch every label once; from then on planes, segments and edits cost no request. */
  loadVolume() {
    if (!this.view.labels_url) return Promise.resolve(null);
    this.loading ||= (async () => {
      const answer = await checked(await fetch(this.view.labels_url));
      const { depth, height, width } = this.view.label_shape;
      this.volume = new LabelVolume(readLabels(await answer.arrayBuffer(), this.view.label_bytes), depth, height, width);
      this.firstLabels.clear();
      return this.volume;
    })();
    return this.loading;
  }

  /** Fetch the blocks that come next in the direction of scrolling. */
  prefetch(plane, index, nSlices, direction) {
    const here = Math.floor(index / BLOCK);
    for (let step = 0; step <= BLOCKS_AHEAD; step++) {
      const first = (here + step * direction) * BLOCK;
      if (first < 0 || first >= nSlices || this.blocks.has(`${plane}/${first}`)) continue;
      this.fetchBlock(`${plane}/${first}`, plane, first, Math.min(BLOCK, nSlices - first)).promise.catch(() => {});
    }
  }
}
