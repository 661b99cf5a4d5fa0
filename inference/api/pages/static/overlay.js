// Values to grey, labels to colour. A label is an integer per pixel; 0 is nothing.

/** Grey by value for int16, as canvas pixels; PS3.3 C.11.2.1.2.1 (LINEAR). Index: value mod 65536. */
export function greyTable({ center, width }) {
  const table = new Uint32Array(65536);
  for (let value = -32768; value < 32768; value++) table[value & 0xffff] = greyPixel(value, center, width);
  return table;
}

function greyPixel(value, center, width) {
  const step = width > 1 ? 1 : 0;
  const low = center - 0.5 * step - (width - step) / 2;
  const grey = Math.min(255, Math.max(0, Math.round(((value - low) * 255) / Math.max(width - step, 1e-9))));
  return ((255 << 24) | (grey << 16) | (grey << 8) | grey) >>> 0;
}

export function paintValues(values, width, height, window, table) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  if (values instanceof Int16Array) for (let i = 0; i < values.length; i++) pixels[i] = table[values[i] & 0xffff];
  else for (let i = 0; i < values.length; i++) pixels[i] = greyPixel(values[i], window.center, window.width);
  return image;
}

/** Colours by label as 0xAABBGGRR (canvas byte order on every browser platform); 0 hides. */
export function paletteOf(segments, hidden) {
  const palette = new Uint32Array(65536);
  for (const segment of segments) {
    const [red, green, blue] = segment.color_rgb;
    if (!hidden.has(segment.label)) palette[segment.label] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }
  return palette;
}

/** Paint one slice. Outlines keep the pixels that touch, by an edge, a pixel of another label. */
export function paint(labels, width, height, palette, isOutline) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  if (!isOutline) {
    for (let i = 0; i < labels.length; i++) pixels[i] = palette[labels[i]];
    return image;
  }
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      const label = labels[i];
      if (label === 0) continue;
      const isEdge = row === 0 || row === height - 1 || column === 0 || column === width - 1
        || labels[i - 1] !== label || labels[i + 1] !== label
        || labels[i - width] !== label || labels[i + width] !== label;
      if (isEdge) pixels[i] = palette[label];
    }
  }
  return image;
}

/** Where each segment is along the slices: one thin line per segment under the picture. */
export function drawPresence(canvas, segments, plane, nSlices, current, hidden) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  const context = canvas.getContext("2d");
  const x = (slice) => (nSlices < 2 ? 0 : (slice / (nSlices - 1)) * canvas.width);
  const step = canvas.height / Math.max(2, segments.length);
  segments.forEach((segment, row) => {
    const where = segment.presence[plane];
    if (where?.first === undefined) return;
    context.fillStyle = `rgb(${segment.color_rgb.join(" ")})`;
    context.globalAlpha = hidden.has(segment.label) ? 0.2 : 1;
    const thickness = Math.max(1, Math.min(step - 1, 4 * scale));
    context.fillRect(x(where.first), row * step, Math.max(2, x(where.last) - x(where.first)), thickness);
  });
  context.globalAlpha = 1;
  context.fillStyle = "#ffffff";
  context.fillRect(Math.min(canvas.width - 2, Math.max(0, x(current) - 1)), 0, 2, canvas.height);
}
