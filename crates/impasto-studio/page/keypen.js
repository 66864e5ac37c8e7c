import { byId } from "./dom.js";

/** @typedef {import("./stroke.js").Point} Point */

/** Steps of an arrow key across the canvas, and across it with Shift. */
const STEPS = 64, LONG_STEPS = 8;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * The pen of the keyboard: arrow keys move a cursor over the canvas. The pen is down while Space is held, or from one
 * press of Enter to the next.
 */
export class KeyPen {
  #canvas = byId("canvas", HTMLCanvasElement);
  #status = byId("canvas-status", HTMLElement);
  #listener;
  /** Place of the cursor, as shares of the canvas. */
  #x = 0.5;
  #y = 0.5;
  #isDown = false;

  /**
   * @param {object} listener
   * @param {() => number} listener.scale returns the zoom, which makes steps smaller
   * @param {(point: Point) => boolean} listener.down returns false if no stroke begins, as with a pipette
   * @param {(point: Point) => void} listener.move called with the place of the cursor, also without a stroke
   * @param {() => void} listener.up
   */
  constructor(listener) {
    this.#listener = listener;
    this.#canvas.addEventListener("keydown", (event) => {
      if (!this.#take(event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.#canvas.addEventListener("keyup", ({ key }) => {
      if (key === " ") this.#lift();
    });
    this.#canvas.addEventListener("blur", () => this.#lift());
    this.#canvas.addEventListener("focus", () => {
      if (this.#canvas.matches(":focus-visible")) this.#go(0, 0);
    });
  }

  /** Place of the cursor, as shares of the canvas. */
  get place() {
    return { x: this.#x, y: this.#y };
  }

  /**
   * Puts the cursor where another pointer has drawn.
   * @param {Point} point
   */
  set point({ x, y }) {
    this.#x = Math.max(0, Math.min(x / this.#canvas.width, 1));
    this.#y = Math.max(0, Math.min(y / this.#canvas.height, 1));
  }

  /** @returns {Point} */
  get point() {
    return { x: this.#x * this.#canvas.width, y: this.#y * this.#canvas.height };
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {boolean} false if the key is not one of the pen's
   */
  #take({ key, shiftKey, ctrlKey, metaKey, altKey, repeat }) {
    if (ctrlKey || metaKey || altKey) return false;
    if (key in ARROWS) {
      const [x, y] = ARROWS[/** @type {keyof typeof ARROWS} */ (key)];
      const step = 1 / (shiftKey ? LONG_STEPS : STEPS) / this.#listener.scale();
      this.#go(x * step, y * step);
      return true;
    }
    if (key === " " || key === "Enter") {
      if (repeat) return true;
      if (this.#isDown && key === "Enter") this.#lift();
      else this.#lower();
      return true;
    }
    if (key !== "Escape" || !this.#isDown) return false;
    this.#lift();
    return true;
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  #go(x, y) {
    const { width, height } = this.#canvas;
    this.point = { x: (this.#x + x) * width, y: (this.#y + y) * height };
    this.#listener.move(this.point);
    this.#say();
  }

  #lower() {
    if (this.#isDown) return;
    this.#isDown = this.#listener.down(this.point);
    if (this.#isDown) this.#say();
  }

  #lift() {
    if (!this.#isDown) return;
    this.#isDown = false;
    this.#listener.up();
    this.#say();
  }

  #say() {
    const { x, y } = this.point;
    this.#status.textContent = `${Math.round(x)}, ${Math.round(y)}${this.#isDown ? ", pen down" : ""}`;
  }
}
