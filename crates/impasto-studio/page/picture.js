import { hex } from "./color.js";
import { byId } from "./dom.js";
import { Surface } from "./layers.js";
import { beginDrag } from "./pictures.js";

/** @typedef {import("./history.js").Entry} Entry */

/** The picture: unfinished while it forms, then finished with the map of a word or the mask of a color over it. */
export class PictureView {
  #frame = byId("frame", HTMLElement);
  #image = byId("picture", HTMLImageElement);
  #map = byId("map", HTMLImageElement);
  #empty = byId("empty", HTMLElement);
  #actions = byId("picture-actions", HTMLElement);
  /** @type {Entry | null} the finished picture that is shown, or that was shown before the unfinished one */
  entry = null;
  #isFinished = false;
  /** @type {string | null} the word of the prompt whose map is asked for */
  #word = null;
  /** @type {import("./api.js").Color | null} the color of the report whose mask is asked for */
  #color = null;

  constructor() {
    this.#image.addEventListener("load", () => {
      this.#frame.style.setProperty("--ratio", String(this.#image.naturalWidth / this.#image.naturalHeight));
    });
    this.#image.addEventListener("dragstart", (event) => {
      if (this.entry && this.#isFinished) beginDrag(event, this.entry.url);
    });
  }

  /** @param {string} url data URL of the unfinished picture */
  preview(url) {
    this.#put(url, "The unfinished picture");
    this.#isFinished = false;
    this.#lay();
  }

  /** @param {Entry} entry */
  show(entry) {
    this.entry = entry;
    this.#put(entry.url, `Picture of seed ${entry.seed}: ${entry.prompt}`);
    this.#isFinished = true;
    this.#actions.hidden = false;
    this.#lay();
  }

  /** Shows no picture. */
  clear() {
    this.entry = null;
    this.#isFinished = false;
    this.#image.removeAttribute("src");
    this.#image.hidden = this.#actions.hidden = true;
    this.#empty.hidden = false;
    this.#lay();
  }

  /** Shows the finished picture again, if there was one before the unfinished one. */
  reset() {
    if (this.entry) this.show(this.entry);
  }

  /**
   * Lays the map of a word over the finished picture: the picture stays bright where it attends to the word.
   * @param {string | null} word word of the prompt, or null for no map
   */
  look(word) {
    this.#word = word;
    this.#lay();
  }

  /**
   * Lays the mask of a color over the finished picture: the picture stays bright where the color was forced.
   * @param {import("./api.js").Color | null} color color of the picture's report, or null for no mask
   */
  lay(color) {
    this.#color = color;
    this.#lay();
  }

  /**
   * Returns the color of the picture under the pointer.
   * @param {MouseEvent} event
   */
  colorAt({ offsetX, offsetY }) {
    const { naturalWidth, naturalHeight, clientWidth, clientHeight } = this.#image;
    const x = Math.floor((offsetX * naturalWidth) / clientWidth);
    const y = Math.floor((offsetY * naturalHeight) / clientHeight);
    const pixel = new Surface(1, 1).context;
    pixel.drawImage(this.#image, x, y, 1, 1, 0, 0, 1, 1);
    const [red, green, blue] = pixel.getImageData(0, 0, 1, 1).data;
    return hex(red, green, blue);
  }

  /** Lays what is asked for over the finished picture: a word's map, or else a color's mask. */
  #lay() {
    const word = this.#mapOf(this.#word);
    const [url, of] = word ? [word.map, word.word] : [this.#color?.mask, this.#color?.label];
    if (url && of && this.#isFinished) {
      this.#map.src = url;
      this.#map.dataset.of = of;
    } else {
      delete this.#map.dataset.of; // fades out
    }
  }

  /**
   * Returns the picture's map of a word of the prompt.
   * @param {string | null} word
   */
  #mapOf(word) {
    const { image, result } = this.entry ?? {};
    // The words of the maps are lowercase, with composed accents, and have no hyphens and no invisible characters.
    const parts = word?.normalize("NFC").replace(/\p{Cf}/gu, "").toLowerCase().split(/[^\p{L}\p{N}]+/u) ?? [];
    return result?.words.find((map) => map.image === image && parts.includes(map.word.toLowerCase()));
  }

  /**
   * @param {string} url
   * @param {string} description
   */
  #put(url, description) {
    this.#image.src = url;
    this.#image.alt = description;
    this.#image.hidden = false;
    this.#empty.hidden = true;
  }
}
