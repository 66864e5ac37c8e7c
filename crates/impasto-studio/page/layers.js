import { create } from "./dom.js";

/**
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 * @typedef {HTMLCanvasElement | HTMLImageElement | ImageBitmap} Picture
 */

/**
 * Creates a canvas of a size, with its context.
 * @param {number} width
 * @param {number} height
 */
function canvasOf(width, height) {
  const canvas = create("canvas", { width, height });
  // Undo and export read the pixels often.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("The browser has no 2D canvas.");
  return { canvas, context };
}

/** Pixels that are painted on: ink, strokes, or the white of a mask, on transparency. */
export class Surface {
  /**
   * @param {number} width
   * @param {number} height
   */
  constructor(width, height) {
    const { canvas, context } = canvasOf(width, height);
    this.canvas = canvas;
    this.context = context;
  }

  get width() {
    return this.canvas.width;
  }

  get height() {
    return this.canvas.height;
  }

  /** True if nothing is painted. */
  get isBlank() {
    const { data } = this.context.getImageData(0, 0, this.width, this.height);
    for (let alpha = 3; alpha < data.length; alpha += 4) if (data[alpha]) return false;
    return true;
  }

  clear() {
    this.context.clearRect(0, 0, this.width, this.height);
  }

  /**
   * Paints a picture into the middle, so that it just fits ("contain") or just covers everything ("cover").
   * @param {Picture} picture
   * @param {"contain" | "cover"} fit
   */
  place(picture, fit) {
    const ratios = [this.width / picture.width, this.height / picture.height];
    const scale = fit === "contain" ? Math.min(...ratios) : Math.max(...ratios);
    const [width, height] = [picture.width * scale, picture.height * scale];
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(picture, (this.width - width) / 2, (this.height - height) / 2, width, height);
  }

  /** Makes a mask from a picture of one: black becomes transparent, and everything else white. */
  makeMask() {
    const pixels = this.context.getImageData(0, 0, this.width, this.height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      pixels.data[at + 3] = (pixels.data[at] * pixels.data[at + 3]) / 255;
      pixels.data.fill(255, at, at + 3);
    }
    this.context.putImageData(pixels, 0, 0);
  }

  /**
   * Changes the size. What is painted is scaled.
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    const before = this.canvas;
    Object.assign(this, canvasOf(width, height));
    this.place(before, "contain");
  }

  /**
   * Returns the surface over an opaque color as data URL of a PNG.
   * @param {string} background
   */
  over(background) {
    const { canvas, context } = canvasOf(this.width, this.height);
    context.fillStyle = background;
    context.fillRect(0, 0, this.width, this.height);
    context.drawImage(this.canvas, 0, 0);
    return canvas.toDataURL("image/png");
  }

  /** Returns the surface as data URL of a transparent PNG. */
  toDataURL() {
    return this.canvas.toDataURL("image/png");
  }

  /**
   * Returns a canvas with the surface in one color.
   * @param {string} color
   * @param {Surface} scratch surface of the same size, which is overwritten
   */
  tinted(color, scratch) {
    const { context, canvas } = scratch;
    scratch.clear();
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = color;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    return canvas;
  }
}

/** A layer of one surface. */
export class Layer {
  isVisible = true;
  /** Diameter of the tool in pixels. */
  size = 1;

  /** @param {Surface} surface */
  constructor(surface) {
    this.surface = surface;
  }
}

/** Display colors of areas: those of Okabe and Ito (2008), which color-blind people can tell apart. */
const AREA_COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];

/** An area in which a phrase of the prompt is painted. */
export class Area {
  strength = 1;

  /**
   * @param {Surface} surface
   * @param {string} phrase
   * @param {number} index number of areas before this one
   */
  constructor(surface, phrase, index) {
    this.surface = surface;
    this.phrase = phrase;
    /** Color in which the canvas shows the area. */
    this.color = AREA_COLORS[index % AREA_COLORS.length];
  }
}
