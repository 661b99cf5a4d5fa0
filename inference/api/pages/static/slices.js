// Fetches slices and keeps the last ones: pictures (one per window) and labels.
import { readLabels } from "/static/overlay.js";

const MAX_PICTURES = 240;
const MAX_LABELS = 400;
const AHEAD = 8;
const BEHIND = 2;

class Kept {
  constructor(limit) { this.limit = limit; this.map = new Map(); }
  get(key) {
    const value = this.map.get(key);
    if (value !== undefined) { this.map.delete(key); this.map.set(key, value); }
    return value;
  }
  set(key, value) {
    this.map.set(key, value);
    for (const oldest of this.map.keys()) {
      if (this.map.size <= this.limit) break;
      this.map.delete(oldest);
    }
  }
}

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
    this.pictures = new Kept(MAX_PICTURES);
    this.labels = new Kept(MAX_LABELS);
    this.direction = 1;
  }

  picture(plane, index, { center, width }) {
    const key = `${plane}/${index}/${center}/${width}`;
    return this.once(this.pictures, key, async () => {
      const url = `${this.view.pictures_url}/${plane}/${index}.png?center=${center}&width=${width}`;
      return createImageBitmap(await (await checked(await fetch(url))).blob());
    });
  }

  labelsOf(plane, index) {
    if (!this.view.labels_url) return Promise.resolve(null);
    return this.once(this.labels, `${plane}/${index}`, async () => {
      const answer = await checked(await fetch(`${this.view.labels_url}/${plane}/${index}`));
      return readLabels(await answer.arrayBuffer(), this.view.label_bytes);
    });
  }

  /** Fetch what comes next in the direction of scrolling. */
  prefetch(plane, index, nSlices, window, direction) {
    for (let step = 1; step <= AHEAD; step++) this.fetchQuietly(plane, index + step * direction, nSlices, window);
    for (let step = 1; step <= BEHIND; step++) this.fetchQuietly(plane, index - step * direction, nSlices, window);
  }

  fetchQuietly(plane, index, nSlices, window) {
    if (index < 0 || index >= nSlices) return;
    this.picture(plane, index, window).catch(() => {});
    this.labelsOf(plane, index).catch(() => {});
  }

  once(kept, key, make) {
    let promise = kept.get(key);
    if (promise === undefined) {
      promise = make();
      promise.catch(() => kept.map.delete(key));
      kept.set(key, promise);
    }
    return promise;
  }
}
