// Keeps the changed slices of a correction on the server, so that a reload or a crash loses nothing.
const WAIT_MS = 700;
const MOST_SLICES = 32; // in one request

export async function packed(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  const found = new Uint8Array(await new Response(stream).arrayBuffer());
  let text = "";
  for (let i = 0; i < found.length; i += 8192) text += String.fromCharCode(...found.subarray(i, i + 8192));
  return btoa(text);
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

export class Draft {
  /** `say(kind, text)` is told how it stands; `stamp` is the hash of the overlay as it is shown. */
  constructor(url, volume, plane, stamp, say) {
    Object.assign(this, { url, volume, plane, stamp, say });
    this.waiting = new Set();
    this.slices = new Set();
    this.saving = Promise.resolve();
    this.timer = 0;
  }

  async load(readLabels) {
    const answer = await fetch(this.url);
    if (!answer.ok) throw new Error(`the draft could not be read: ${answer.status}`);
    const found = await answer.json();
    for (const [index, text] of Object.entries(found.slices)) {
      this.volume.replace(this.plane, Number(index), readLabels(await unpacked(text)));
      this.slices.add(Number(index));
    }
    this.stamp = found.overlay_sha256;
    return this.slices.size;
  }

  touch(voxels) {
    for (const voxel of voxels) this.waiting.add(this.volume.sliceOf(this.plane, voxel));
    for (const index of this.waiting) this.slices.add(index);
    if (!voxels.length) return;
    this.say("unsaved", "");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), WAIT_MS);
  }

  /** Send what waits; resolves when the server has all of it. */
  save() {
    clearTimeout(this.timer);
    this.saving = this.saving.catch(() => {}).then(() => this.sendAll());
    return this.saving;
  }

  async sendAll() {
    while (this.waiting.size) {
      const part = [...this.waiting].slice(0, MOST_SLICES);
      part.forEach((index) => this.waiting.delete(index));
      try {
        const slices = {};
        for (const index of part) slices[index] = await packed(this.bytesOf(index));
        const answer = await fetch(this.url, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ slices }) });
        const body = await answer.json();
        if (!answer.ok) throw new Error(body.detail || `the service answered ${answer.status}`);
        this.stamp = body.overlay_sha256;
      } catch (error) {
        part.forEach((index) => this.waiting.add(index));
        this.say("failed", error.message);
        throw error;
      }
    }
    this.say("saved", "");
  }

  bytesOf(index) {
    const slice = this.volume.cut(this.plane, index);
    return new Uint8Array(slice.buffer, slice.byteOffset, slice.byteLength);
  }

  async discard() {
    const answer = await fetch(this.url, { method: "DELETE" });
    if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  }
}
