import { Surface } from "./layers.js";

/**
 * @typedef {import("./layers.js").Box} Box
 * @typedef {{x: number, y: number}} Point place in pixels of the drawing
 * @typedef {object} Paint
 * @property {string | null} color null for an eraser
 * @property {number} opacity from 0 to 1
 * @property {boolean} isLasso true if the stroke fills what it surrounds
 */

/** A color for pixels of which only the opacity counts. */
const INK = "#000000";
/** Length in pixels of the line that makes a dot. */
const DOT = 0.01;

/** A stroke while it is drawn. Where a stroke crosses itself, it is no more opaque than elsewhere. */
export class Stroke {
  #surface;
  #before;
  #ink;
  #paint;
  /** The last point, and the middle of the last two points, up to which the stroke is drawn. */
  #last;
  #middle;
  /** The area that the stroke covers. */
  #box;
  /** @type {Point[] | null} the points of a lasso; null for a brush or an eraser */
  outline;

  /**
   * @param {Surface} surface surface that is painted on
   * @param {Surface} before copy of this surface without the stroke
   * @param {Paint} paint
   * @param {Point} point
   */
  constructor(surface, before, paint, point) {
    this.#surface = surface;
    this.#before = before;
    this.#ink = new Surface(surface.width, surface.height);
    this.#paint = paint;
    this.#last = this.#middle = point;
    this.#box = { ...point, width: 0, height: 0 };
    this.outline = paint.isLasso ? [point] : null;
  }

  /** The surface that is painted on. */
  get surface() {
    return this.#surface;
  }

  /**
   * Draws up to the middle between the last point and the next one. Curves from middle to middle are smooth.
   * @param {Point} point
   * @param {number} width
   */
  extend(point, width) {
    const last = this.#last;
    this.#last = point;
    if (this.outline) {
      this.outline.push(point);
      return;
    }
    const middle = { x: (last.x + point.x) / 2, y: (last.y + point.y) / 2 };
    const { context } = this.#ink;
    context.strokeStyle = this.#paint.color ?? INK;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(this.#middle.x, this.#middle.y);
    context.quadraticCurveTo(last.x, last.y, middle.x, middle.y);
    // A click must make a dot. Browsers draw no round ends for a line of length 0.
    context.lineTo(middle.x + DOT, middle.y);
    context.stroke();
    this.#lay([this.#middle, last, middle], width / 2 + 1);
    this.#middle = middle;
  }

  /**
   * Draws the rest of the stroke: from the middle up to the last point, or what the lasso surrounds.
   * @param {number} width
   * @returns {Box | null} the area that the stroke covers, in whole pixels; null for a stroke outside of the surface
   */
  finish(width) {
    if (this.outline) this.#fill(this.outline);
    else this.extend(this.#last, width);
    return this.#pixels(this.#box);
  }

  /** @param {Point[]} outline */
  #fill(outline) {
    const { context } = this.#ink;
    context.fillStyle = this.#paint.color ?? INK;
    context.beginPath();
    for (const { x, y } of outline) context.lineTo(x, y);
    context.fill();
    this.#lay(outline, 1);
  }

  /**
   * Lays the ink around points over the pixels that were there before the stroke.
   * @param {Point[]} points
   * @param {number} margin
   */
  #lay(points, margin) {
    this.#box = covering(this.#box, points, margin);
    const box = this.#pixels(covering({ ...points[0], width: 0, height: 0 }, points, margin));
    if (!box) return;
    const { x, y, width, height } = box;
    const { context } = this.#surface;
    const draw = (/** @type {Surface} */ { canvas }) => {
      context.drawImage(canvas, x, y, width, height, x, y, width, height);
    };
    context.save();
    context.clearRect(x, y, width, height);
    draw(this.#before);
    context.globalAlpha = this.#paint.opacity;
    context.globalCompositeOperation = this.#paint.color ? "source-over" : "destination-out";
    draw(this.#ink);
    context.restore();
  }

  /**
   * Returns the whole pixels of the surface that a box touches, or null if it touches none.
   * @param {Box} box
   * @returns {Box | null}
   */
  #pixels(box) {
    const x = Math.max(0, Math.floor(box.x)), y = Math.max(0, Math.floor(box.y));
    const width = Math.min(this.#surface.width, Math.ceil(box.x + box.width)) - x;
    const height = Math.min(this.#surface.height, Math.ceil(box.y + box.height)) - y;
    return width > 0 && height > 0 ? { x, y, width, height } : null;
  }
}

/**
 * Returns the smallest box around a box and around points with a margin.
 * @param {Box} box
 * @param {Point[]} points
 * @param {number} margin
 * @returns {Box}
 */
function covering(box, points, margin) {
  const xs = points.map((point) => point.x), ys = points.map((point) => point.y);
  const left = Math.min(box.x, Math.min(...xs) - margin), top = Math.min(box.y, Math.min(...ys) - margin);
  const right = Math.max(box.x + box.width, Math.max(...xs) + margin);
  const bottom = Math.max(box.y + box.height, Math.max(...ys) + margin);
  return { x: left, y: top, width: right - left, height: bottom - top };
}
