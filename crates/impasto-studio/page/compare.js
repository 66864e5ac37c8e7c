import { byId } from "./dom.js";

/** @typedef {import("./history.js").Entry} Entry */

/** The slider that shows a part of the picture as it was before: of the picture that was shown last. */
export class Comparison {
  #field = byId("compare-field", HTMLElement);
  #slider = byId("compare", HTMLInputElement);
  #frame = byId("frame", HTMLElement);
  #before = byId("before", HTMLImageElement);

  constructor() {
    this.#slider.addEventListener("input", () => this.#show());
  }

  /**
   * Offers a picture to compare with. The slider begins without it.
   * @param {Entry} entry
   */
  offer({ png, seed }) {
    URL.revokeObjectURL(this.#before.src);
    // The history frees its own URL when it forgets the picture.
    this.#before.src = URL.createObjectURL(png);
    this.#before.alt = `The picture before, of seed ${seed}`;
    this.#field.hidden = false;
    this.reset();
  }

  /** Offers no picture. */
  clear() {
    this.reset();
    this.#field.hidden = true;
  }

  /** Shows the newer picture alone. */
  reset() {
    this.#slider.value = "0";
    this.#show();
  }

  #show() {
    const share = Number(this.#slider.value);
    this.#before.hidden = share === 0;
    this.#frame.style.setProperty("--before", `${share}%`);
    this.#slider.ariaValueText = share === 0 ? "after" : share === 100 ? "before" : `${share} % before`;
  }
}
