import { byId, create, moveByArrows, press } from "./dom.js";
import { beginDrag } from "./pictures.js";

/**
 * A finished picture.
 * @typedef {object} Entry
 * @property {Blob} png the picture with the request that repeats it
 * @property {string} url blob URL of the PNG
 * @property {number} seed
 * @property {number} image index of the picture in its result
 * @property {string} prompt
 * @property {string | null} live name of the live view that painted the picture
 * @property {import("./api.js").Result} result
 */

/** Maximum number of pictures that are kept. */
const MOST = 40;

/** The strip of finished pictures. It keeps their PNGs, because the server keeps only the PNGs of its latest jobs. */
export class History {
  #list = byId("history", HTMLUListElement);
  /** @type {{entry: Entry, item: HTMLLIElement}[]} newest first */
  #shown = [];
  #show;

  /** @param {(entry: Entry) => void} show shows a picture that the user has chosen */
  constructor(show) {
    this.#show = show;
    moveByArrows(this.#list);
  }

  get isFull() {
    return this.#shown.length >= MOST;
  }

  /**
   * Adds the pictures of a run, the first one in front. A live view's pictures replace its earlier ones.
   * @param {Entry[]} entries
   */
  add(entries) {
    const live = entries[0]?.live;
    if (live) this.#remove(({ live: other }) => other === live);
    const added = entries.map((entry) => ({ entry, item: this.#item(entry) }));
    this.#list.prepend(...added.map(({ item }) => item));
    this.#shown.unshift(...added);
    this.#forget();
  }

  /**
   * Adds the pictures of a run that ended before all others.
   * @param {Entry[]} entries
   */
  addOlder(entries) {
    const added = entries.map((entry) => ({ entry, item: this.#item(entry) }));
    this.#list.append(...added.map(({ item }) => item));
    this.#shown.push(...added);
    this.#forget();
  }

  /**
   * Marks the picture that is shown.
   * @param {Entry} shown
   */
  mark(shown) {
    for (const { entry, item } of this.#shown) {
      if (item.firstElementChild) press(item.firstElementChild, entry === shown);
    }
  }

  /**
   * Returns a picture's PNG.
   * @param {string} url the picture's blob URL
   */
  png(url) {
    return this.#shown.find(({ entry }) => entry.url === url)?.entry.png;
  }

  /**
   * Returns the pictures of the run from which a picture comes.
   * @param {Entry} shown
   */
  runOf({ result }) {
    return this.#shown.map(({ entry }) => entry).filter((entry) => entry.result === result);
  }

  /** Removes the oldest pictures beyond those that are kept. */
  #forget() {
    const oldest = this.#shown.slice(MOST).map(({ entry }) => entry);
    this.#remove((entry) => oldest.includes(entry));
  }

  /** @param {(entry: Entry) => boolean} isRemoved */
  #remove(isRemoved) {
    this.#shown = this.#shown.filter(({ entry, item }) => {
      if (!isRemoved(entry)) return true;
      item.remove();
      URL.revokeObjectURL(entry.url);
      return false;
    });
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
