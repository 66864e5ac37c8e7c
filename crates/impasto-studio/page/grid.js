import { byId, create } from "./dom.js";

/** @typedef {import("./history.js").Entry} Entry */

/** The pictures of one run beside each other in the frame of the picture, such as those of four seeds. */
export class PictureGrid {
  #grid = byId("grid", HTMLElement);
  #open = byId("grid-open", HTMLButtonElement);
  /** @type {Entry[]} */
  #entries = [];
  #choose;

  /** @param {(entry: Entry) => void} choose shows a picture alone */
  constructor(choose) {
    this.#choose = choose;
    this.#open.addEventListener("click", () => {
      this.open();
      this.#grid.querySelector("button")?.focus();
    });
  }

  /**
   * Offers the pictures of the run from which the shown picture comes.
   * @param {Entry[]} entries
   */
  offer(entries) {
    this.#entries = entries;
    this.close();
    this.#open.hidden = entries.length < 2;
    this.#open.textContent = `All ${entries.length}`;
  }

  /** Shows the pictures beside each other, if there are several. */
  open() {
    if (this.#entries.length < 2) return;
    this.#grid.replaceChildren(...this.#entries.map((entry) => this.#button(entry)));
    this.#grid.hidden = false;
  }

  close() {
    this.#grid.hidden = true;
  }

  /** @param {Entry} entry */
  #button(entry) {
    const label = `Seed ${entry.seed}`;
    const button = create("button", { type: "button", title: label, ariaLabel: label });
    button.append(create("img", { src: entry.url, alt: "", draggable: false }));
    button.addEventListener("click", () => this.#choose(entry));
    return button;
  }
}
