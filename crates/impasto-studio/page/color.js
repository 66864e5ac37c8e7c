import { byId, create } from "./dom.js";

/** Maximum number of recent colors that the popover offers. */
const MOST_RECENT = 8;

const probe = create("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });

/**
 * Returns a CSS color as `#rrggbb`, or null if the text is no opaque color.
 * @param {string} text
 * @returns {string | null}
 */
export function cssColor(text) {
  if (!probe) return null;
  // A canvas ignores a fill style that is no color, so the pixel stays transparent.
  probe.clearRect(0, 0, 1, 1);
  probe.fillStyle = "transparent";
  probe.fillStyle = text;
  probe.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = probe.getImageData(0, 0, 1, 1).data;
  return alpha === 255 ? hex(red, green, blue) : null;
}

/**
 * @param {number} red
 * @param {number} green
 * @param {number} blue
 */
export function hex(red, green, blue) {
  return `#${[red, green, blue].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/** The popover in which a word gets its color. */
export class ColorPopover {
  #popover = byId("color", HTMLElement);
  #title = byId("color-title", HTMLElement);
  #picker = byId("color-picker", HTMLInputElement);
  #text = byId("color-hex", HTMLInputElement);
  #recent = byId("recent-colors", HTMLElement);
  /** @type {string[]} newest first */
  #colors = [];
  /** @type {(color: string | null) => void} */
  #choose = () => {};
  #repaint = () => {};

  constructor() {
    this.#picker.addEventListener("input", () => this.#show(this.#picker.value));
    this.#text.addEventListener("input", () => {
      const color = this.#typed();
      this.#text.setCustomValidity(color ? "" : "Type a color such as #ffd700, gold or rgb(255, 215, 0).");
      if (color) this.#picker.value = color;
    });
    byId("color-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      const color = this.#typed();
      if (color) this.#close(color);
    });
    byId("color-clear", HTMLButtonElement).addEventListener("click", () => this.#close(null));
    byId("color-repaint", HTMLButtonElement).addEventListener("click", () => {
      this.#popover.hidePopover();
      this.#repaint();
    });
  }

  /**
   * Opens the popover beside an element.
   * @param {Element} anchor
   * @param {{word: string, color: string | null, choose: (color: string | null) => void, repaint: () => void}} options
   *   `choose` gets the color, or null for no color; `repaint` is called to repaint the word's thing alone
   */
  open(anchor, { word, color, choose, repaint }) {
    this.#choose = choose;
    this.#repaint = repaint;
    this.#title.textContent = `Color of “${word}”`;
    this.#show(color ?? this.#colors[0] ?? "#ffd700");
    this.#recent.replaceChildren(...this.#colors.map((recent) => this.#swatch(recent)));
    this.#recent.hidden = this.#colors.length === 0;
    this.#popover.showPopover();
    this.#place(anchor.getBoundingClientRect());
    this.#text.select();
  }

  /** @param {DOMRect} anchor */
  #place(anchor) {
    const { width, height } = this.#popover.getBoundingClientRect();
    const gap = 6;
    const below = anchor.bottom + gap;
    const top = below + height > innerHeight ? Math.max(gap, anchor.top - gap - height) : below;
    this.#popover.style.left = `${Math.max(gap, Math.min(anchor.left, innerWidth - width - gap))}px`;
    this.#popover.style.top = `${top}px`;
  }

  /** Returns the color in the text field. Hexadecimal digits without # are a color too. */
  #typed() {
    const text = this.#text.value.trim();
    return cssColor(text) ?? cssColor(`#${text}`);
  }

  /** @param {string} color */
  #show(color) {
    this.#picker.value = this.#text.value = color;
    this.#text.setCustomValidity("");
  }

  /** @param {string} color */
  #swatch(color) {
    const button = create("button", { type: "button", className: "swatch", title: color, ariaLabel: color });
    button.style.setProperty("--color", color);
    button.addEventListener("click", () => this.#close(color));
    return button;
  }

  /** @param {string | null} color */
  #close(color) {
    this.#popover.hidePopover();
    if (color) this.#colors = [color, ...this.#colors.filter((other) => other !== color)].slice(0, MOST_RECENT);
    this.#choose(color);
  }
}
