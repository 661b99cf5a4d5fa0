// Label slices to coloured pixels. A label is an integer per pixel; 0 is nothing.

export function readLabels(buffer, bytesPerPixel) {
  return bytesPerPixel === 1 ? new Uint8Array(buffer) : new Uint16Array(buffer);
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
