import { hex } from "./color.js";
import { byId } from "./dom.js";
import { Surface } from "./layers.js";

/**
 * @typedef {import("./layers.js").Box} Box
 * @typedef {import("./layers.js").Picture} Picture
 * @typedef {{x: number, y: number}} Point place in pixels of the drawing
 *
 * A stroke while it is drawn.
 * @typedef {object} Stroke
 * @property {number} pointer id of the pointer that draws
 * @property {Surface} surface
 * @property {string | null} color null while erasing
 * @property {Point} last the last point
 * @property {Point} middle the middle of the last two points, up to which the stroke is drawn
 * @property {number} width width at the last point
 * @property {Box} box the area that the stroke covers
 * @property {Point[] | null} outline the points of a lasso; null for a brush or an eraser
 */

/** Colors of the canvas. The paper is white on a dark page too. Masks are painted with the paper's white. */
const PAPER = "#ffffff", INK = "#000000", MASK = "#e5484d";
/** Opacities of areas and masks over the other layers. */
const AREA_OPACITY = 0.4, CHOSEN_OPACITY = 0.6, MASK_OPACITY = 0.45;
/** Width of a stroke by a pen without pressure, as a share of the tool's size. */
const LEAST_PRESSURE = 0.2;
/** Value of `buttons` in a pointer event while the eraser of a pen touches the canvas. */
const PEN_ERASER = 32;

/** The canvas that shows a drawing, and the pointer that paints on it. */
export class CanvasView {
  #canvas = byId("canvas", HTMLCanvasElement);
  #cursor = byId("cursor", HTMLElement);
  #view = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d", { willReadFrequently: true }));
  #scratch = new Surface(1, 1);
  /** @type {Stroke | null} */
  #stroke = null;
  #isRenderDue = false;
  #drawing;
  #picked;

  /**
   * @param {import("./drawing.js").Drawing} drawing
   * @param {(color: string) => void} picked gets a color picked from the canvas
   */
  constructor(drawing, picked) {
    this.#drawing = drawing;
    this.#picked = picked;
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#finish(event));
    canvas.addEventListener("pointercancel", (event) => this.#finish(event));
    canvas.addEventListener("pointerleave", () => (this.#cursor.hidden = true));
    // A long press of a finger or pen draws, and opens no menu.
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Shows the current state of the drawing. */
  update() {
    const { width, height, chosenLayer, tool, layer } = this.#drawing;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      Object.assign(this.#canvas, { width, height });
      this.#scratch = new Surface(width, height);
    }
    this.#canvas.ariaLabel =
      `Canvas of ${width} × ${height} pixels. Layer: ${chosenLayer.replace("-", " ")}. ` +
      `Tool: ${tool}, ${layer.size} pixels.`;
    this.#renderSoon();
  }

  /** @param {PointerEvent} event */
  #begin(event) {
    const isPenEraser = (event.buttons & PEN_ERASER) !== 0;
    if (this.#stroke || (event.button !== 0 && !isPenEraser)) return;
    event.preventDefault();
    const point = this.#pointOf(event);
    if (event.altKey) return this.#pick(point);
    this.#canvas.setPointerCapture(event.pointerId);
    const drawing = this.#drawing;
    const surface = drawing.target();
    drawing.begin(surface);
    const colors = { "line-art": INK, strokes: drawing.color, areas: PAPER, mask: PAPER };
    const color = drawing.tool === "eraser" || isPenEraser ? null : colors[drawing.chosenLayer];
    const box = { ...point, width: 0, height: 0 };
    const width = this.#widthOf(event);
    const outline = drawing.tool === "lasso" ? [point] : null;
    this.#stroke = { pointer: event.pointerId, surface, color, last: point, middle: point, width, box, outline };
    this.#extend(this.#stroke, point);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    this.#showCursor(event);
    const stroke = this.#stroke;
    if (stroke?.pointer !== event.pointerId) return;
    // Browsers join the events up to the next frame; the points between them keep a fast curve round.
    const joined = event.getCoalescedEvents?.() ?? [];
    for (const each of joined.length > 0 ? joined : [event]) {
      stroke.width = this.#widthOf(each);
      this.#extend(stroke, this.#pointOf(each));
    }
  }

  /** @param {PointerEvent} event */
  #finish(event) {
    const stroke = this.#stroke;
    if (stroke?.pointer !== event.pointerId) return;
    this.#extend(stroke, this.#pointOf(event));
    if (stroke.outline) fill(stroke, stroke.outline);
    else this.#extend(stroke, stroke.last); // from the middle up to the last point
    this.#stroke = null;
    const { surface, box } = stroke;
    const x = Math.max(0, Math.floor(box.x)), y = Math.max(0, Math.floor(box.y));
    const width = Math.min(surface.width, Math.ceil(box.x + box.width)) - x;
    const height = Math.min(surface.height, Math.ceil(box.y + box.height)) - y;
    if (width > 0 && height > 0) this.#drawing.end(surface, { x, y, width, height });
  }

  /**
   * Draws a stroke up to the middle between its last point and the next one. Curves from middle to middle are smooth.
   * @param {Stroke} stroke
   * @param {Point} point
   */
  #extend(stroke, point) {
    const { surface: { context }, color, last, width, outline } = stroke;
    if (outline) {
      outline.push(point);
      stroke.last = point;
      return this.#renderSoon();
    }
    const middle = { x: (last.x + point.x) / 2, y: (last.y + point.y) / 2 };
    context.save();
    context.globalCompositeOperation = color ? "source-over" : "destination-out";
    context.strokeStyle = color ?? INK;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(stroke.middle.x, stroke.middle.y);
    context.quadraticCurveTo(last.x, last.y, middle.x, middle.y);
    // A click must make a dot. Browsers draw round ends for a line of length 0, but not for a curve of length 0.
    context.lineTo(middle.x, middle.y);
    context.stroke();
    context.restore();
    stroke.box = covering(stroke.box, [stroke.middle, last, middle], width / 2 + 1);
    stroke.last = point;
    stroke.middle = middle;
    this.#renderSoon();
  }

  /**
   * @param {PointerEvent} event
   * @returns {Point}
   */
  #pointOf({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    return { x: ((clientX - left) * this.#canvas.width) / width, y: ((clientY - top) * this.#canvas.height) / height };
  }

  /**
   * Returns the width of a stroke: the tool's size, less for a pen that is not pressed hard.
   * @param {PointerEvent} event
   */
  #widthOf({ pointerType, pressure }) {
    const share = pointerType === "pen" ? LEAST_PRESSURE + (1 - LEAST_PRESSURE) * pressure : 1;
    return this.#drawing.layer.size * share;
  }

  /** @param {Point} point */
  #pick({ x, y }) {
    const [red, green, blue] = this.#view.getImageData(x, y, 1, 1).data;
    this.#picked(hex(red, green, blue));
  }

  /**
   * Shows the tool's size at the pointer. A finger would hide it.
   * @param {PointerEvent} event
   */
  #showCursor({ clientX, clientY, pointerType }) {
    const { left, top, width } = this.#canvas.getBoundingClientRect();
    const size = (this.#drawing.layer.size * width) / this.#canvas.width;
    this.#cursor.hidden = pointerType === "touch";
    this.#cursor.style.width = this.#cursor.style.height = `${size}px`;
    this.#cursor.style.transform = `translate(${clientX - left - size / 2}px, ${clientY - top - size / 2}px)`;
  }

  #renderSoon() {
    if (this.#isRenderDue) return;
    this.#isRenderDue = true;
    requestAnimationFrame(() => {
      this.#isRenderDue = false;
      this.#render();
    });
  }

  #render() {
    const view = this.#view;
    const { width, height, start, strokes, lineArt, mask, soften, areaLayer, areas } = this.#drawing;
    const { chosenArea, chosenLayer } = this.#drawing;
    const draw = (/** @type {Picture} */ picture, opacity = 1) => {
      view.globalAlpha = opacity;
      view.drawImage(picture, 0, 0, width, height);
      view.globalAlpha = 1;
    };
    view.fillStyle = PAPER;
    view.fillRect(0, 0, width, height);
    if (start) draw(start);
    if (strokes.isVisible) draw(strokes.surface.canvas);
    // Multiplied colors keep lines visible over strokes, and the white paper of a loaded picture hides nothing.
    view.globalCompositeOperation = "multiply";
    if (lineArt.isVisible) draw(lineArt.surface.canvas);
    view.globalCompositeOperation = "source-over";
    for (const area of areaLayer.isVisible ? areas : []) {
      const isChosen = area === chosenArea && chosenLayer === "areas";
      draw(area.surface.tinted(area.color, this.#scratch), isChosen ? CHOSEN_OPACITY : AREA_OPACITY);
    }
    // Browsers without filters show a hard edge. The library makes the soft edge of the painted mask in any case.
    if (soften > 0) view.filter = `blur(${soften / 2}px)`;
    if (mask.isVisible) draw(mask.surface.tinted(MASK, this.#scratch), MASK_OPACITY);
    view.filter = "none";
    if (this.#stroke?.outline) this.#trace(this.#stroke.outline);
  }

  /**
   * Shows the outline of a lasso.
   * @param {Point[]} outline
   */
  #trace(outline) {
    const view = this.#view;
    view.beginPath();
    for (const { x, y } of outline) view.lineTo(x, y);
    view.closePath();
    // Two colors, so that one of both is seen on any picture.
    for (const [color, dash] of /** @type {[string, number[]][]} */ ([[PAPER, []], [INK, [4, 4]]])) {
      view.strokeStyle = color;
      view.setLineDash(dash);
      view.stroke();
    }
    view.setLineDash([]);
  }
}

/**
 * Fills what a lasso surrounds.
 * @param {Stroke} stroke
 * @param {Point[]} outline
 */
function fill(stroke, outline) {
  const { surface: { context }, color } = stroke;
  context.save();
  context.globalCompositeOperation = color ? "source-over" : "destination-out";
  context.fillStyle = color ?? INK;
  context.beginPath();
  for (const { x, y } of outline) context.lineTo(x, y);
  context.fill();
  context.restore();
  stroke.box = covering(stroke.box, outline, 1);
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
