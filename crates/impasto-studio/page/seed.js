import { byId, press } from "./dom.js";

/**
 * @typedef {{isLocked: boolean, reason: string}} Hold whether the user has locked the seed, and the reason for which
 *   the page keeps it otherwise, as a sentence
 */

/** Number of possible random seeds. Seeds this short are easy to tell to others. */
const SEEDS = 2 ** 32;

/** The seed, which every run changes unless the user has locked it, or the page keeps it and says so. */
export class SeedField {
  #field = byId("seed", HTMLInputElement);
  #lock = byId("lock", HTMLButtonElement);
  #note = byId("seed-note", HTMLElement);
  #isLive = false;
  /** @type {Hold} */
  #hold = { isLocked: false, reason: "" };

  /** @param {() => void} changed */
  constructor(changed) {
    this.#field.addEventListener("change", changed);
    // A user who types a seed wants to keep it.
    this.#field.addEventListener("input", () => {
      this.hold = { isLocked: this.#field.value !== "", reason: "" };
    });
    this.#lock.addEventListener("click", () => {
      this.hold = { isLocked: !this.#isHeld, reason: "" };
    });
    byId("dice", HTMLButtonElement).addEventListener("click", () => {
      this.roll();
      if (this.#hold.reason) this.hold = { isLocked: false, reason: "" };
      changed();
    });
    this.roll();
  }

  /** True if the next run has the seed that is shown. */
  get isLocked() {
    return this.#isHeld || this.#isLive;
  }

  /** While live, every run has the same seed. */
  set isLive(/** @type {boolean} */ isLive) {
    this.#isLive = isLive;
    this.#lock.disabled = isLive;
    this.#show();
  }

  /** The seed; null if the field is empty. */
  get value() {
    return this.#field.value === "" ? null : Number(this.#field.value);
  }

  roll() {
    this.#field.value = String(Math.floor(Math.random() * SEEDS));
  }

  /**
   * Keeps a seed until the user unlocks it. A seed that the user has locked stays.
   * @param {number} seed
   * @param {string} reason shown below the field
   */
  keep(seed, reason) {
    if (this.#hold.isLocked) return;
    this.#field.value = String(seed);
    this.hold = { isLocked: false, reason };
  }

  /**
   * Shows the seed of a request, and keeps it.
   * @param {number | null} seed null for a random seed
   * @param {string} reason reason for which a seed is kept
   */
  restore(seed, reason) {
    if (seed !== null) this.#field.value = String(seed);
    this.hold = { isLocked: false, reason: seed === null ? "" : reason };
  }

  get hold() {
    return this.#hold;
  }

  set hold(hold) {
    this.#hold = hold;
    this.#show();
  }

  get #isHeld() {
    return this.#hold.isLocked || this.#hold.reason !== "";
  }

  #show() {
    press(this.#lock, this.isLocked);
    this.#note.textContent = this.#hold.reason;
    this.#note.hidden = !this.#hold.reason;
  }
}
