import { hex } from "./color.js";
import { byId } from "./dom.js";
import { KeyPen } from "./keypen.js";
import { Surface } from "./layers.js";
import { Stroke } from "./stroke.js";
import { Zoom } from "./zoom.js";

/**
 * @typedef {import("./layers.js").Picture} Picture
 * @typedef {import("./stroke.js").Point} Point
 */

/** Colors of the canvas. The paper is white on a dark page too. Masks are painted with the paper's white. */
const PAPER = "#ffffff", INK = "#000000", MASK = "#e5484d";
/** Opacities of areas and masks over the other layers, and of the last picture below them. */
const AREA_OPACITY = 0.4, CHOSEN_OPACITY = 0.6, MASK_OPACITY = 0.45, DIMMED = 0.45;
/** Width of a stroke by a pen without pressure, as a share of the tool's size. */
const LEAST_PRESSURE = 0.2;
/** Value of `buttons` in a pointer event while the eraser of a pen touches the canvas. */
const PEN_ERASER = 32;
/** Smallest diameter in pixels of the screen at which the keyboard's cursor is seen. */
const LEAST_CURSOR = 14;

/** The canvas that shows a drawing, and the pointers and keys that paint on it. */
export class CanvasView {
  #canvas = byId("canvas", HTMLCanvasElement);
  #sheet = byId("canvas-sheet", HTMLElement);
  #cursor = byId("cursor", HTMLElement);
  #view = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d", { willReadFrequently: true }));
  #scratch = new Surface(1, 1);
  /** @type {Stroke | null} */
  #stroke = null;
  /** @type {number | null} id of the pointer that draws; null while the keyboard draws, or nothing does */
  #pointer = null;
  /** True if nothing was drawn before the stroke. */
  #isFirst = false;
  #isRenderDue = false;
  #drawing;
  #listener;
  #keys;
  zoom = new Zoom();

  /**
   * @param {import("./drawing.js").Drawing} drawing
   * @param {object} listener
   * @param {(color: string) => void} listener.picked gets a color picked from the canvas
   * @param {() => void} listener.begun called at the end of the first stroke on an empty drawing
   */
  constructor(drawing, listener) {
    this.#drawing = drawing;
    this.#listener = listener;
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#finish(event));
    canvas.addEventListener("pointercancel", (event) => this.#finish(event));
    canvas.addEventListener("pointerleave", () => (this.#cursor.hidden = true));
    // A long press of a finger or pen draws, and opens no menu.
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.#keys = new KeyPen({
      scale: () => this.zoom.scale,
      down: (point) => this.#lower(point, drawing.layer.size, false),
      move: (point) => this.#follow(point),
      up: () => this.#lift(drawing.layer.size),
    });
    canvas.addEventListener("blur", () => (this.#cursor.hidden = true));
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
    this.#canvas.dataset.tool = tool;
    this.#renderSoon();
  }

  /** @param {PointerEvent} event */
  #begin(event) {
    if (this.zoom.begin(event, this.#drawing.tool === "hand")) {
      event.preventDefault();
      return this.#abandon();
    }
    const isPenEraser = (event.buttons & PEN_ERASER) !== 0;
    if (this.#stroke || (event.button !== 0 && !isPenEraser)) return;
    const point = this.#pointOf(event);
    if (event.altKey) return this.#listener.picked(this.#colorAt(point));
    if (!this.#lower(point, this.#widthOf(event), isPenEraser)) return;
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (this.zoom.move(event)) return;
    this.#showCursor(event, this.#drawing.layer.size);
    this.#cursor.hidden = event.pointerType === "touch"; // A finger would hide it.
    if (!this.#stroke || this.#pointer !== event.pointerId) return;
    // Browsers join the events up to the next frame; the points between them keep a fast curve round.
    const joined = event.getCoalescedEvents?.() ?? [];
    for (const each of joined.length > 0 ? joined : [event]) {
      this.#stroke.extend(this.#pointOf(each), this.#widthOf(each));
    }
    this.#renderSoon();
  }

  /** @param {PointerEvent} event */
  #finish(event) {
    if (this.zoom.end(event) || !this.#stroke || this.#pointer !== event.pointerId) return;
    const point = this.#pointOf(event), width = this.#widthOf(event);
    this.#stroke.extend(point, width);
    this.#lift(width);
    this.#keys.point = point;
  }

  /** Takes a stroke back, because a second finger shows that the first one did not want to draw. */
  #abandon() {
    if (!this.#stroke) return;
    this.#drawing.cancel(this.#stroke.surface);
    this.#stroke = this.#pointer = null;
  }

  /**
   * Puts the tool on the canvas.
   * @param {Point} point
   * @param {number} width
   * @param {boolean} erases true for a pen's own eraser
   * @returns {boolean} true if a stroke begins
   */
  #lower(point, width, erases) {
    const drawing = this.#drawing;
    const { tool, opacity } = drawing;
    if (tool === "pipette") this.#listener.picked(this.#colorAt(point));
    if (tool === "pipette" || tool === "hand" || this.#stroke) return false;
    this.#isFirst = drawing.isBlank;
    const surface = drawing.target();
    const before = drawing.begin(surface);
    const colors = { "line-art": INK, strokes: drawing.color, areas: PAPER, mask: PAPER };
    const color = tool === "eraser" || erases ? null : colors[drawing.chosenLayer];
    this.#stroke = new Stroke(surface, before, { color, opacity, isLasso: tool === "lasso" }, point);
    this.#stroke.extend(point, width);
    this.#renderSoon();
    return true;
  }

  /** @param {number} width */
  #lift(width) {
    const stroke = this.#stroke;
    if (!stroke) return;
    const box = stroke.finish(width);
    this.#stroke = this.#pointer = null;
    if (!box) return;
    if (this.#isFirst) this.#listener.begun();
    this.#drawing.end(stroke.surface, box);
  }

  /**
   * Shows the keyboard's cursor, and draws up to it while the pen is down.
   * @param {Point} point
   */
  #follow(point) {
    if (this.#pointer === null) this.#stroke?.extend(point, this.#drawing.layer.size);
    this.zoom.reveal(this.#keys.place);
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const clientX = left + (point.x * width) / this.#canvas.width;
    const clientY = top + (point.y * height) / this.#canvas.height;
    const least = (LEAST_CURSOR * this.#canvas.width) / width;
    this.#showCursor({ clientX, clientY }, Math.max(this.#drawing.layer.size, least));
    this.#cursor.hidden = false;
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

  /**
   * Returns the color of a pixel: of the strokes and lines, or else of the picture below them, which is not dimmed.
   * @param {Point} point
   */
  #colorAt({ x, y }) {
    const { context } = this.#scratch;
    this.#renderPaint(context, 1);
    const { width, height } = this.#scratch;
    const column = Math.max(0, Math.min(Math.floor(x), width - 1));
    const row = Math.max(0, Math.min(Math.floor(y), height - 1));
    const [red, green, blue] = context.getImageData(column, row, 1, 1).data;
    return hex(red, green, blue);
  }

  /**
   * Shows the tool's size at a place of the window.
   * @param {{clientX: number, clientY: number}} place
   * @param {number} diameter in pixels of the drawing
   */
  #showCursor({ clientX, clientY }, diameter) {
    const { left, top } = this.#sheet.getBoundingClientRect();
    const size = (diameter * this.#canvas.getBoundingClientRect().width) / this.#canvas.width;
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
    const { mask, soften, areaLayer, areas, chosenArea, chosenLayer } = this.#drawing;
    this.#renderPaint(view, DIMMED);
    for (const area of areaLayer.isVisible ? areas : []) {
      const isChosen = area === chosenArea && chosenLayer === "areas";
      this.#draw(view, area.surface.tinted(area.color, this.#scratch), isChosen ? CHOSEN_OPACITY : AREA_OPACITY);
    }
    // Browsers without filters show a hard edge. The library makes the soft edge of the painted mask in any case.
    if (soften > 0) view.filter = `blur(${soften / 2}px)`;
    if (mask.isVisible) this.#draw(view, mask.surface.tinted(MASK, this.#scratch), MASK_OPACITY);
    view.filter = "none";
    if (this.#stroke?.outline) this.#trace(this.#stroke.outline);
  }

  /**
   * Renders what has a color: the picture below the layers, strokes and line art.
   * @param {CanvasRenderingContext2D} view
   * @param {number} opacity opacity of the last picture
   */
  #renderPaint(view, opacity) {
    const { width, height, start, shownBelow, strokes, lineArt } = this.#drawing;
    view.fillStyle = PAPER;
    view.fillRect(0, 0, width, height);
    if (shownBelow) this.#draw(view, shownBelow, opacity);
    else if (start) this.#draw(view, start, 1);
    if (strokes.isVisible) this.#draw(view, strokes.surface.canvas, 1);
    // Multiplied colors keep lines visible over strokes, and the white paper of a loaded picture hides nothing.
    view.globalCompositeOperation = "multiply";
    if (lineArt.isVisible) this.#draw(view, lineArt.surface.canvas, 1);
    view.globalCompositeOperation = "source-over";
  }

  /**
   * Draws a layer, or a picture of another size as large as it fits.
   * @param {CanvasRenderingContext2D} view
   * @param {Picture} picture
   * @param {number} opacity
   */
  #draw(view, picture, opacity) {
    const { width, height } = this.#drawing;
    const scale = Math.min(width / picture.width, height / picture.height);
    const [across, down] = [picture.width * scale, picture.height * scale];
    view.globalAlpha = opacity;
    view.drawImage(picture, (width - across) / 2, (height - down) / 2, across, down);
    view.globalAlpha = 1;
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
