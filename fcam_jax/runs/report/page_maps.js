"use strict";
// Score maps in the browser: unpacked, cut at a threshold, measured as the program's own evaluation measures them, drawn.

const UNDECIDED = 128, OBJECT = 255;

/** Levels from their packed form: deflated second differences, along rows and then along columns, modulo 256. */
async function unpackLevels(text, width, height) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const levels = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let y = 0; y < height; y++) {
    for (let x = 1; x < width; x++) levels[y * width + x] += levels[y * width + x - 1];
  }
  for (let p = width; p < levels.length; p++) levels[p] += levels[p - width];
  return levels;
}

/** The level above which a pixel is foreground at a threshold, a share of the map's maximum. */
function levelAt(levels, threshold) {
  let highest = 0;
  for (const level of levels) if (level > highest) highest = level;
  return Math.floor(threshold * highest);
}

/**
 * Box x0, y0, x1, y1 of the contour of largest area, where x1 and y1 are one past the last pixel unless clipped.
 *
 * Components are 8-connected, their holes filled. Their area is that of the polygon through the centres of the pixels
 * on their rim: whole 2x2 blocks, and half of those with three pixels. Of equal areas the component wins that begins last.
 */
function largestBox(levels, width, height, level) {
  const wide = width + 2, size = wide * (height + 2);
  const solid = new Uint8Array(size).fill(1);
  const above = (p) => {
    const x = p % wide - 1, y = Math.floor(p / wide) - 1;
    return x >= 0 && x < width && y >= 0 && y < height && levels[y * width + x] > level;
  };
  const stack = new Int32Array(size);
  let waiting = 0;
  const sides = [-1, 1, -wide, wide];
  solid[0] = 0;
  stack[waiting++] = 0;
  while (waiting) {
    const p = stack[--waiting];
    for (const step of sides) {
      const n = p + step;
      if (n >= 0 && n < size && solid[n] && !above(n)) { solid[n] = 0; stack[waiting++] = n; }
    }
  }
  const around = [...sides, -wide - 1, -wide + 1, wide - 1, wide + 1];
  const part = new Int32Array(size);
  const boxes = [];
  for (let first = 0; first < size; first++) {
    if (!solid[first] || part[first]) continue;
    const box = { x0: wide, y0: height, x1: 0, y1: 0, area: 0 };
    boxes.push(box);
    part[first] = boxes.length;
    stack[waiting++] = first;
    while (waiting) {
      const p = stack[--waiting], x = p % wide - 1, y = Math.floor(p / wide) - 1;
      box.x0 = Math.min(box.x0, x); box.x1 = Math.max(box.x1, x);
      box.y0 = Math.min(box.y0, y); box.y1 = Math.max(box.y1, y);
      for (const step of around) {
        if (solid[p + step] && !part[p + step]) { part[p + step] = boxes.length; stack[waiting++] = p + step; }
      }
    }
  }
  for (let p = 0; p + wide + 1 < size; p++) {
    const count = solid[p] + solid[p + 1] + solid[p + wide] + solid[p + wide + 1];
    if (count >= 3) boxes[(part[p] || part[p + 1]) - 1].area += count === 4 ? 2 : 1;
  }
  let best = null;
  for (const box of boxes) if (!best || box.area >= best.area) best = box;
  return best ? [best.x0, best.y0, Math.min(best.x1 + 1, width - 1), Math.min(best.y1 + 1, height - 1)] : [0, 0, 0, 0];
}

/** Overlap of two boxes of inclusive pixels. */
function boxIou(a, b) {
  const both = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]) + 1) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]) + 1);
  const either = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - both;
  return either > 0 ? both / either : 0;
}

/** Overlap of the map above a level with the true mask, outside of what is undecided. */
function maskIou(levels, level, mask) {
  let both = 0, either = 0;
  for (let p = 0; p < levels.length; p++) {
    if (mask[p] === UNDECIDED) continue;
    const taken = levels[p] > level, object = mask[p] === OBJECT;
    if (taken && object) both++;
    if (taken || object) either++;
  }
  return both / Math.max(either, 1);
}

/** What a map localizes at a threshold: its level, its box (null without true boxes), its overlap (null without truth). */
function localize(levels, example, mask, threshold) {
  const [height, width] = example.size;
  const level = levelAt(levels, threshold);
  if (example.boxes) {
    const box = largestBox(levels, width, height, level);
    return { level, box, iou: Math.max(...example.boxes.map((truth) => boxIou(box, truth))) };
  }
  return { level, box: null, iou: mask ? maskIou(levels, level, mask) : null };
}

// Dark violet over red and orange to light yellow; even steps in lightness.
const HEAT = [[22, 11, 57], [87, 16, 110], [147, 38, 103], [203, 65, 73], [242, 109, 43], [251, 170, 25], [252, 255, 164]];
const ABOVE = [240, 20, 30], LOST = [30, 190, 60], FALSE = [40, 90, 255];

function heatOf(level) {
  const place = level / 255 * (HEAT.length - 1), i = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[i].map((low, c) => low + (HEAT[i + 1][c] - low) * (place - i));
}

/** A picture of the map's size whose pixels are [r, g, b, alpha] of their position, or null. */
function layer(width, height, colourOf) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  for (let p = 0; p < width * height; p++) {
    const colour = colourOf(p);
    if (colour) pixels.data.set(colour, 4 * p);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const HEATS = Array.from({ length: 256 }, (_, level) => [...heatOf(level), 60 + level * 0.6]);

/**
 * Draw an example onto a canvas of any size.
 *
 * `view` holds what is laid over the image: levels (null for none), level and box as from `localize`, and show, with
 * flags map, cut and boxes.
 */
function paint(canvas, example, pixels, view) {
  const [height, width] = example.size, context = canvas.getContext("2d");
  const scaleX = canvas.width / width, scaleY = canvas.height / height;
  const put = (picture, smooth) => {
    context.imageSmoothingEnabled = smooth;
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  };
  put(pixels.image, true);
  const { levels, level, box, show } = view, mask = pixels.mask;
  if (levels && show.map) put(layer(width, height, (p) => HEATS[levels[p]]), true);
  if (levels && show.cut) put(layer(width, height, cutColours(levels, level, example.boxes ? null : mask, width, show.map)), false);
  if (!show.boxes) return;
  const object = (p) => mask[p] === OBJECT;
  if (mask) put(layer(width, height, (p) => (onRim(object, p, width, mask.length) ? [31, 200, 58, 255] : null)), false);
  const line = Math.max(1.5, canvas.width / 110);
  const frame = ([x0, y0, x1, y1], colour, dashes) => {
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.setLineDash(dashes);
    context.strokeRect(x0 * scaleX + line / 2, y0 * scaleY + line / 2, (x1 - x0 + 1) * scaleX - line, (y1 - y0 + 1) * scaleY - line);
  };
  for (const truth of example.boxes || []) frame(truth, "#1fe03f", []);
  if (box) frame(box, "#ff1f28", [4 * line, 2 * line]);
}

/** Colours of the map above a level, its rim the strongest; with a mask, hits, losses and false alarms differ. */
function cutColours(levels, level, mask, width, faint) {
  const alpha = faint ? 40 : 120, above = (p) => levels[p] > level;
  const kind = (p) => {
    if (!mask) return above(p) ? ABOVE : null;
    if (mask[p] === OBJECT) return above(p) ? ABOVE : LOST;
    return above(p) && mask[p] !== UNDECIDED ? FALSE : null;
  };
  return (p) => {
    if (onRim(above, p, width, levels.length)) return [...ABOVE, 220];
    const colour = kind(p);
    return colour && [...colour, alpha];
  };
}

/** Whether a pixel of a set has a neighbour outside of it, or lies at the edge. */
function onRim(within, p, width, size) {
  const x = p % width;
  if (!within(p)) return false;
  return x === 0 || x === width - 1 || [p - 1, p + 1, p - width, p + width].some((n) => n < 0 || n >= size || !within(n));
}
