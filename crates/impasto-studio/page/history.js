import { byId, create, moveByArrows, press } from "./dom.js";
import { byAge } from "./gallery.js";
import { beginDrag } from "./pictures.js";

/**
 * A finished picture.
 * @typedef {object} Entry
 * @property {string} key the time of its run, and its index
 * @property {Blob} png the picture with the request that repeats it
 * @property {string} url blob URL of the PNG
 * @property {number} seed
 * @property {number} image index of the picture in its result
 * @property {string} prompt
 * @property {string | null} live name of the live view that painted the picture
 * @property {import("./api.js").Result} result
 * @property {boolean} isStarred
 */

/** Maximum number of pictures that are shown, beside those with a star. */
const MOST = 200;

/** The strip of finished pictures, the newest first. */
export class History {
  #list = byId("history", HTMLUListElement);
  /** @type {{entry: Entry, item: HTMLLIElement}[]} */
  #shown = [];
  #show;

  /** @param {(entry: Entry) => void} show shows a picture that the user has chosen */
  constructor(show) {
    this.#show = show;
    moveByArrows(this.#list);
  }

  /** @param {string} key */
  has(key) {
    return this.#shown.some(({ entry }) => entry.key === key);
  }

  /** The newest picture. */
  get newest() {
    return this.#shown[0]?.entry;
  }

  /** True if only the pictures with a star are shown. */
  set isOnlyStarred(/** @type {boolean} */ isOnlyStarred) {
    this.#list.classList.toggle("only-starred", isOnlyStarred);
  }

  /**
   * Adds pictures of a run, each at its place. A live view's pictures replace its earlier ones.
   * @param {Entry[]} entries
   */
  add(entries) {
    const live = entries[0]?.live;
    if (live) this.#remove((other) => other.live === live && !entries.some(({ key }) => key === other.key));
    for (const entry of entries) {
      if (this.has(entry.key)) {
        URL.revokeObjectURL(entry.url);
        continue;
      }
      const added = { entry, item: this.#item(entry) };
      const after = this.#shown.findIndex((other) => byAge(entry.key, other.entry.key) < 0);
      if (after < 0) {
        this.#list.append(added.item);
        this.#shown.push(added);
      } else {
        this.#shown[after].item.before(added.item);
        this.#shown.splice(after, 0, added);
      }
    }
    const oldest = this.#shown.filter(({ entry }) => !entry.isStarred).slice(MOST).map(({ entry }) => entry);
    this.#remove((entry) => oldest.includes(entry));
  }

  /**
   * Gives a picture a star, or takes it away.
   * @param {string} key
   * @param {boolean} isStarred
   */
  star(key, isStarred) {
    const found = this.#shown.find(({ entry }) => entry.key === key);
    if (!found) return;
    found.entry.isStarred = isStarred;
    describe(found.item, found.entry);
  }

  /**
   * Takes a picture out. Returns the next older picture, or else the next newer one.
   * @param {string} key
   */
  remove(key) {
    const index = this.#shown.findIndex(({ entry }) => entry.key === key);
    this.#remove((entry) => entry.key === key);
    return (this.#shown[index] ?? this.#shown[index - 1])?.entry;
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
  runOf({ result: { time } }) {
    return this.#shown.map(({ entry }) => entry).filter(({ result }) => result.time === time);
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
    const image = create("img", { src: entry.url, alt: "", draggable: true, decoding: "async" });
    const button = create("button", { type: "button" }, image);
    button.dataset.seed = String(entry.seed);
    button.addEventListener("click", () => this.#show(entry));
    button.addEventListener("dragstart", (event) => beginDrag(event, entry.url));
    const item = create("li", {}, button);
    describe(item, entry);
    return item;
  }
}

/**
 * Shows whether a picture of the strip has a star.
 * @param {HTMLLIElement} item
 * @param {Entry} entry
 */
function describe(item, { seed, isStarred }) {
  item.classList.toggle("starred", isStarred);
  const text = `Picture of seed ${seed}${isStarred ? ", with a star" : ""}`;
  if (item.firstElementChild) Object.assign(item.firstElementChild, { title: text, ariaLabel: text });
}
