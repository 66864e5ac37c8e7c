import { byId, create } from "./dom.js";
import { withComment } from "./exif.js";
import { infotextOf } from "./infotext.js";
import { Surface } from "./layers.js";
import { decoded } from "./pictures.js";

/** @typedef {import("./history.js").Entry} Entry */

/** Quality of a JPEG or WebP, at which flat colors show no blocks. */
const QUALITY = 0.95;

/** The button that saves the shown picture as a file, and the choice of the format. */
export class Download {
  #button = byId("download", HTMLButtonElement);
  #format = byId("format", HTMLSelectElement);
  #note = byId("format-note", HTMLElement);
  /** @type {Entry | null} */
  #entry = null;

  /** @param {(work: Promise<void>) => void} attempt */
  constructor(attempt) {
    this.#button.addEventListener("click", () => {
      if (this.#entry) attempt(this.#save(this.#entry));
    });
    this.#format.addEventListener("change", () => (this.#note.hidden = this.#format.value === "png"));
  }

  /** @param {Entry} entry the picture to save */
  set entry(entry) {
    this.#entry = entry;
  }

  /** @param {Entry} entry */
  async #save(entry) {
    const format = this.#format.value;
    const file = format === "png" ? entry.png : await converted(entry, `image/${format}`);
    const href = URL.createObjectURL(file);
    create("a", { href, download: `impasto-${entry.seed}.${format === "jpeg" ? "jpg" : format}` }).click();
    // The browser has begun to read the file when the page runs again.
    setTimeout(() => URL.revokeObjectURL(href));
  }
}

/**
 * Returns a picture in another format, with the settings that other programs read.
 * @param {Entry} entry
 * @param {string} type
 */
export async function converted({ url, png }, type) {
  const picture = await decoded(url);
  const { naturalWidth: width, naturalHeight: height } = picture;
  const surface = new Surface(width, height);
  surface.place(picture, "contain");
  const file = await new Promise((/** @type {(file: Blob | null) => void} */ resolve) => {
    surface.canvas.toBlob(resolve, type, QUALITY);
  });
  // A browser that cannot write a format writes a PNG.
  if (file?.type !== type) throw new Error("This browser cannot write the format. Choose another one.");
  const text = await infotextOf(png);
  return text === null ? file : withComment(file, text, { width, height });
}
