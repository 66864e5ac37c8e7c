import { byId, create, moveByArrows, press } from "./dom.js";
import { beginDrag } from "./pictures.js";

/**
 * A finished picture.
 * @typedef {object} Entry
 * @property {Blob} png
 * @property {string} url blob URL of the PNG
 * @property {number} seed
 * @property {number} image index of the picture in its result
 * @property {import("./api.js").Request} request the request that repeats this picture
 * @property {import("./api.js").Result} result
 */

/** Maximum number of pictures that are kept. */
const MOST = 40;

/** The strip of finished pictures. It keeps their PNGs, because the server keeps only the PNGs of its latest jobs. */
export class History {
  #list = byId("history", HTMLUListElement);
  /** @type {Map<string, {entry: Entry, item: HTMLLIElement}>} by blob URL, newest last */
  #entries = new Map();
  #show;

  /** @param {(entry: Entry) => void} show shows a picture that the user has chosen */
  constructor(show) {
    this.#show = show;
    moveByArrows(this.#list);
  }

  /**
   * Adds the pictures of a run, the first one in front. A live view's pictures replace its earlier ones.
   * @param {Entry[]} entries
   */
  add(entries) {
    const live = entries[0]?.request.live;
    for (const { entry } of live ? this.#entries.values() : []) if (entry.request.live === live) this.#remove(entry);
    for (const entry of [...entries].reverse()) {
      const item = this.#item(entry);
      this.#entries.set(entry.url, { entry, item });
      this.#list.prepend(item);
    }
    for (const { entry } of [...this.#entries.values()].slice(0, -MOST)) this.#remove(entry);
  }

  /**
   * Marks the picture that is shown.
   * @param {Entry} shown
   */
  mark(shown) {
    for (const { entry, item } of this.#entries.values()) {
      if (item.firstElementChild) press(item.firstElementChild, entry === shown);
    }
  }

  /**
   * Returns a picture's PNG.
   * @param {string} url the picture's blob URL
   */
  png(url) {
    return this.#entries.get(url)?.entry.png;
  }

  /** @param {Entry} entry */
  #remove(entry) {
    this.#entries.get(entry.url)?.item.remove();
    this.#entries.delete(entry.url);
    URL.revokeObjectURL(entry.url);
  }

  /** @param {Entry} entry */
  #item(entry) {
    const image = create("img", { src: entry.url, alt: "", draggable: true });
    const ariaLabel = `Picture of seed ${entry.seed}`;
    const button = create("button", { type: "button", title: ariaLabel, ariaLabel }, image);
    button.dataset.seed = String(entry.seed);
    button.addEventListener("click", () => this.#show(entry));
    button.addEventListener("dragstart", (event) => beginDrag(event, entry.url));
    return create("li", {}, button);
  }
}
