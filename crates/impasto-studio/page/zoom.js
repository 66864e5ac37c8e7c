import { byId } from "./dom.js";

/** @typedef {{x: number, y: number}} Place place on the sheet, as shares of its width and height */

/** Largest zoom, and the factor of one press of a button or key. */
const MOST = 16, FACTOR = 1.5;
/** Share of the sheet along its edges in which the keyboard's cursor moves the canvas. */
const MARGIN = 0.15;
/** Pixels of the wheel that zoom by a factor of e. */
const WHEEL = 300;
/** Value of `button` in a pointer event of the wheel's button. */
const MIDDLE = 1;

/** The zoom of the canvas, and the part of it that its sheet shows. */
export class Zoom {
  #sheet = byId("canvas-sheet", HTMLElement);
  #canvas = byId("canvas", HTMLCanvasElement);
  #out = byId("zoom-out", HTMLButtonElement);
  #in = byId("zoom-in", HTMLButtonElement);
  #fit = byId("zoom-fit", HTMLButtonElement);
  #scale = 1;
  /** Place of the canvas's left upper corner: 0 or less. */
  #left = 0;
  #top = 0;
  /** @type {Map<number, Place>} fingers on the canvas, and the mouse that moves it, by the ids of the pointers */
  #pointers = new Map();
  #isMoving = false;

  constructor() {
    this.#out.addEventListener("click", () => this.change(-1));
    this.#in.addEventListener("click", () => this.change(1));
    this.#fit.addEventListener("click", () => this.reset());
    this.#sheet.addEventListener("wheel", (event) => this.#turn(event), { passive: false });
    this.#sheet.addEventListener("mousedown", (event) => {
      if (event.button === MIDDLE) event.preventDefault(); // This button would scroll the page.
    });
    this.#show();
  }

  get scale() {
    return this.#scale;
  }

  /**
   * Makes the canvas larger or smaller around the middle of the sheet.
   * @param {1 | -1} direction
   */
  change(direction) {
    this.#zoom(this.#scale * FACTOR ** direction, { x: 0.5, y: 0.5 });
  }

  /** Shows the whole canvas. */
  reset() {
    this.#zoom(1, { x: 0, y: 0 });
  }

  /**
   * Takes a pointer that moves the canvas: a second finger, the wheel's button, or any pointer of the hand.
   * @param {PointerEvent} event
   * @param {boolean} isHand
   * @returns {boolean} false if the pointer draws
   */
  begin(event, isHand) {
    const moves = isHand || event.button === MIDDLE;
    if (event.pointerType !== "touch" && !moves) return false;
    this.#pointers.set(event.pointerId, this.#placeOf(event));
    this.#isMoving ||= moves || this.#pointers.size > 1;
    if (this.#isMoving) this.#canvas.setPointerCapture(event.pointerId);
    return this.#isMoving;
  }

  /**
   * @param {PointerEvent} event
   * @returns {boolean} true if the pointer moves the canvas
   */
  move(event) {
    if (!this.#pointers.has(event.pointerId)) return false;
    const before = spread([...this.#pointers.values()]);
    this.#pointers.set(event.pointerId, this.#placeOf(event));
    if (!this.#isMoving) return false;
    const after = spread([...this.#pointers.values()]);
    this.#pan(after.x - before.x, after.y - before.y);
    if (before.size > 0) this.#zoom((this.#scale * after.size) / before.size, after);
    return true;
  }

  /**
   * @param {PointerEvent} event
   * @returns {boolean} true if the pointer has moved the canvas
   */
  end(event) {
    const isKnown = this.#pointers.delete(event.pointerId) && this.#isMoving;
    if (this.#pointers.size === 0) this.#isMoving = false;
    return isKnown;
  }

  /**
   * Moves the canvas so that a place on it is well within the sheet.
   * @param {Place} place as shares of the canvas
   */
  reveal({ x, y }) {
    const off = (/** @type {number} */ at) => Math.max(MARGIN, Math.min(at, 1 - MARGIN)) - at;
    this.#pan(off(x * this.#scale + this.#left), off(y * this.#scale + this.#top));
  }

  /** @param {WheelEvent} event */
  #turn(event) {
    // A wheel without Ctrl scrolls the page while the whole canvas is shown.
    if (!event.ctrlKey && this.#scale === 1) return;
    event.preventDefault();
    if (event.ctrlKey) return this.#zoom(this.#scale * Math.exp(-event.deltaY / WHEEL), this.#placeOf(event));
    const { width, height } = this.#sheet.getBoundingClientRect();
    this.#pan(-event.deltaX / width, -event.deltaY / height);
  }

  /**
   * @param {number} scale
   * @param {Place} at place on the sheet under which the canvas stays
   */
  #zoom(scale, at) {
    const next = Math.max(1, Math.min(scale, MOST));
    const ratio = next / this.#scale;
    this.#scale = next;
    this.#pan((at.x - this.#left) * (1 - ratio), (at.y - this.#top) * (1 - ratio));
  }

  /**
   * @param {number} x as share of the sheet's width
   * @param {number} y as share of the sheet's height
   */
  #pan(x, y) {
    this.#left = Math.max(1 - this.#scale, Math.min(this.#left + x, 0));
    this.#top = Math.max(1 - this.#scale, Math.min(this.#top + y, 0));
    this.#show();
  }

  #show() {
    const percent = (/** @type {number} */ share) => `${share * 100}%`;
    this.#canvas.style.transform =
      `translate(${percent(this.#left)}, ${percent(this.#top)}) scale(${this.#scale})`;
    this.#out.disabled = this.#scale === 1;
    this.#in.disabled = this.#scale === MOST;
    this.#fit.textContent = `${Math.round(this.#scale * 100)} %`;
  }

  /**
   * @param {MouseEvent} event
   * @returns {Place}
   */
  #placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.#sheet.getBoundingClientRect();
    return { x: (clientX - left) / width, y: (clientY - top) / height };
  }
}

/**
 * Returns the middle of the first two places, and their distance; 0 for a single place.
 * @param {Place[]} places
 */
function spread([first, second = first]) {
  const size = Math.hypot(second.x - first.x, second.y - first.y);
  return { x: (first.x + second.x) / 2, y: (first.y + second.y) / 2, size };
}
