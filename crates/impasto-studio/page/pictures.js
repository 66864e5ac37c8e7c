import { byId, create, within } from "./dom.js";
import { Surface } from "./layers.js";

/** Type of a drag from this page's own history. A dragged file has the type `Files`. */
const OWN_DRAG = "application/x-impasto-picture";

/**
 * Decodes a picture. Vector pictures and animations become one raster picture.
 * @param {string} url data URL or blob URL
 * @returns {Promise<HTMLImageElement>}
 */
export async function decoded(url) {
  const image = create("img", { src: url });
  try {
    await image.decode();
  } catch {
    throw new Error("This browser cannot read the file as a picture. Use a PNG, JPEG or WebP.");
  }
  return image;
}

/**
 * Returns a picture as data URL of a PNG, made smaller if a side is longer than `side`.
 * @param {HTMLImageElement} picture
 * @param {number} side
 */
export function encoded(picture, side) {
  const { naturalWidth, naturalHeight } = picture;
  const scale = Math.min(1, side / Math.max(naturalWidth, naturalHeight));
  const surface = new Surface(Math.ceil(naturalWidth * scale), Math.ceil(naturalHeight * scale));
  surface.place(picture, "cover");
  return surface.over("#ffffff");
}

/** A picture of the request beside the layers: the start picture, the reference, or that of the palette. */
export class PictureSlot {
  #slot;
  #image;
  #hint;
  #remove;
  #changed;
  /** @type {string | null} the result of `within` for the current picture */
  #encoded = null;
  /** @type {HTMLImageElement | null} */
  picture = null;

  /**
   * @param {string} id id of the slot's element
   * @param {() => void} changed called after the user has removed the picture
   */
  constructor(id, changed) {
    this.#slot = byId(id, HTMLElement);
    this.#image = within(this.#slot, "img", HTMLImageElement);
    this.#hint = within(this.#slot, ".hint", HTMLElement);
    this.#remove = within(this.#slot, "button", HTMLButtonElement);
    this.#changed = changed;
    this.#remove.addEventListener("click", () => {
      this.set(null);
      this.#changed();
    });
  }

  /** @param {HTMLImageElement | null} picture */
  set(picture) {
    if (this.picture) URL.revokeObjectURL(this.picture.src);
    this.picture = picture;
    this.#encoded = null;
    if (picture) this.#image.src = picture.src;
    else this.#image.removeAttribute("src");
    this.#image.hidden = this.#remove.hidden = !picture;
    this.#hint.hidden = Boolean(picture);
  }

  /**
   * Returns the picture cut to a size, as a canvas.
   * @param {number} width
   * @param {number} height
   */
  covering(width, height) {
    if (!this.picture) return null;
    const surface = new Surface(width, height);
    surface.place(this.picture, "cover");
    return surface.canvas;
  }

  /**
   * Returns the whole picture as data URL of a PNG, made smaller if a side is longer than `side`.
   * @param {number} side
   */
  within(side) {
    if (this.picture) this.#encoded ??= encoded(this.picture, side);
    return this.#encoded;
  }
}

/**
 * Lets the user open pictures: by the file field, by dropping them anywhere, and by pasting them.
 * @param {(file: Blob) => void} open
 * @param {(url: string) => Blob | undefined} own returns the picture of the history with this blob URL
 */
export function listenForPictures(open, own) {
  const field = byId("open", HTMLInputElement);
  const overlay = byId("drop", HTMLElement);
  const first = (/** @type {FileList | undefined} */ files) => {
    const file = [...(files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (file) open(file);
  };
  field.addEventListener("change", () => {
    first(field.files ?? undefined);
    field.value = ""; // so that the same file can be opened again
  });
  addEventListener("paste", (event) => first(event.clipboardData?.files));
  addEventListener("dragover", (event) => {
    const types = event.dataTransfer?.types ?? [];
    // Dragged text belongs to the text fields.
    if (!types.includes("Files") && !types.includes(OWN_DRAG)) return;
    event.preventDefault();
    overlay.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) overlay.hidden = true;
  });
  addEventListener("dragend", () => (overlay.hidden = true));
  addEventListener("drop", (event) => {
    if (overlay.hidden) return;
    event.preventDefault();
    overlay.hidden = true;
    const picture = own(event.dataTransfer?.getData(OWN_DRAG) ?? "");
    if (picture) open(picture);
    else first(event.dataTransfer?.files);
  });
}

/**
 * Lets the user drag a picture of the history, within the page and out of it.
 * @param {DragEvent} event
 * @param {string} url the picture's blob URL
 */
export function beginDrag(event, url) {
  event.dataTransfer?.setData(OWN_DRAG, url);
}
