import { Area, Layer, Surface } from "./layers.js";
import { UndoStack } from "./undo.js";

/**
 * @typedef {"line-art" | "strokes" | "areas" | "mask"} LayerName
 * @typedef {"brush" | "eraser" | "lasso" | "pipette" | "hand"} Tool
 * @typedef {import("./layers.js").Box} Box
 * @typedef {import("./layers.js").Picture} Picture
 */

/** Maximum number of areas of a request. */
const MOST_AREAS = 16;
/** Background of line art, and of masks. */
const PAPER = "#ffffff", BLACK = "#000000";
/** Initial sizes of the tools, as shares of the picture's width. */
const FIRST_SIZES = { "line-art": 1 / 96, strokes: 1 / 32, areas: 1 / 8, mask: 1 / 8 };

/** The layers of a drawing, and the tool that paints on them. */
export class Drawing {
  #undo = new UndoStack();
  #before = new Surface(1, 1);
  #listener;

  width = 1;
  height = 1;
  lineArt = new Layer(new Surface(1, 1));
  strokes = new Layer(new Surface(1, 1));
  mask = new Layer(new Surface(1, 1));
  /** The layer of areas. Each area has a surface of its own. */
  areaLayer = { isVisible: true, size: 1 };
  /** @type {Area[]} */
  areas = [];
  /** @type {Area | null} */
  chosenArea = null;
  /** @type {LayerName} */
  chosenLayer = "line-art";
  /** @type {Tool} */
  tool = "brush";
  /** Width in pixels of the soft edge around the mask. */
  soften = 0;
  /** Color of the strokes that are drawn next. */
  color = "#000000";
  /** Opacity of what is drawn next, from 0 to 1. */
  opacity = 1;
  /** @type {HTMLCanvasElement | null} the start picture in this size, which is shown below the layers */
  start = null;
  /** @type {Picture | null} the last picture, which is shown below line art, strokes and areas */
  last = null;
  /** True if the last picture is shown below the layers. */
  showsLast = true;

  /**
   * @param {object} listener
   * @param {() => void} listener.changed called after a change of what is painted
   * @param {() => void} listener.updated called after a change of anything that the page shows
   * @param {() => string} listener.phrase returns the phrase of a new area
   */
  constructor(listener) {
    this.#listener = listener;
  }

  /** The chosen layer. */
  get layer() {
    return this.layerNamed(this.chosenLayer);
  }

  /** @param {LayerName} name */
  layerNamed(name) {
    return { "line-art": this.lineArt, strokes: this.strokes, areas: this.areaLayer, mask: this.mask }[name];
  }

  get canUndo() {
    return this.#undo.canUndo;
  }

  get canRedo() {
    return this.#undo.canRedo;
  }

  get canAddArea() {
    return this.areas.length < MOST_AREAS;
  }

  /** True if nothing is drawn on any layer. */
  get isBlank() {
    return this.#surfaces.every((surface) => surface.isBlank);
  }

  /** The last picture, if it is shown below the layers. A start picture takes its place: the run begins with it. */
  get shownBelow() {
    return this.showsLast && !this.start ? this.last : null;
  }

  /** The surface of the chosen layer; undefined for the layer of areas while there is no area. */
  get #chosenSurface() {
    const { lineArt, strokes, mask, chosenArea } = this;
    const areas = chosenArea?.surface;
    return { "line-art": lineArt.surface, strokes: strokes.surface, areas, mask: mask.surface }[this.chosenLayer];
  }

  get #surfaces() {
    return [this.lineArt.surface, this.strokes.surface, this.mask.surface, ...this.areas.map((area) => area.surface)];
  }

  /**
   * Changes the size in pixels. Earlier changes can then no longer be undone: they hold pixels of the former size.
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    if (width === this.width && height === this.height) return;
    // Tools keep their size relative to the picture.
    for (const [name, share] of Object.entries(FIRST_SIZES)) {
      const layer = this.layerNamed(/** @type {LayerName} */ (name));
      layer.size = Math.max(1, Math.round(width * (this.width > 1 ? layer.size / this.width : share)));
    }
    for (const surface of [...this.#surfaces, this.#before]) surface.resize(width, height);
    Object.assign(this, { width, height });
    this.#undo.clear();
    this.update();
  }

  undo() {
    this.#undo.undo();
    this.changed();
  }

  redo() {
    this.#undo.redo();
    this.changed();
  }

  /** Returns the surface that the tool paints on, and shows its layer. */
  target() {
    this.layer.isVisible = true;
    if (!this.#chosenSurface) this.addArea();
    return /** @type {Surface} */ (this.#chosenSurface);
  }

  /** Clears the chosen layer, or the chosen area. */
  clear() {
    const surface = this.#chosenSurface;
    if (!surface || surface.isBlank) return;
    this.#edit(surface, () => surface.clear());
  }

  /**
   * Replaces the line art by a picture of dark lines on white or transparency.
   * @param {Picture} picture
   */
  loadLineArt(picture) {
    const { surface } = this.lineArt;
    this.lineArt.isVisible = true;
    this.#edit(surface, () => {
      surface.clear();
      surface.place(picture, "contain");
    });
  }

  /** Adds an area and chooses it. */
  addArea() {
    const area = new Area(new Surface(this.width, this.height), this.#listener.phrase(), this.areas.length);
    this.#exchange([...this.areas, area], area);
    this.update();
  }

  /** @param {Area} area */
  removeArea(area) {
    const rest = this.areas.filter((other) => other !== area);
    this.#exchange(rest, this.chosenArea === area ? (rest[0] ?? null) : this.chosenArea);
    this.changed();
  }

  /** Returns the size and the drawn parts of a request. Hidden and blank layers are left out. */
  request() {
    const isUsed = (/** @type {Layer} */ layer) => layer.isVisible && !layer.surface.isBlank;
    const areas = this.areaLayer.isVisible ? this.areas.filter((area) => !area.surface.isBlank) : [];
    return {
      width: this.width,
      height: this.height,
      line_art: isUsed(this.lineArt) ? this.lineArt.surface.over(PAPER) : null,
      strokes: isUsed(this.strokes) ? this.strokes.surface.toDataURL() : null,
      mask: this.start && isUsed(this.mask) ? this.mask.surface.over(BLACK) : null,
      soften: this.soften || null,
      areas: areas.map((area) => ({
        phrase: area.phrase.trim(),
        strength: area.strength,
        mask: area.surface.over(BLACK),
      })),
    };
  }

  /**
   * Replaces everything that is drawn.
   * @param {{lineArt: Picture | null, strokes: Picture | null, mask: Picture | null, soften: number,
   *   areas: {phrase: string, strength: number, mask: Picture}[]}} pictures
   */
  restore({ lineArt, strokes, mask, soften, areas }) {
    this.soften = soften;
    this.areas = areas.map(({ phrase, strength }, index) =>
      Object.assign(new Area(new Surface(this.width, this.height), phrase, index), { strength }));
    this.chosenArea = this.areas[0] ?? null;
    const masks = [mask, ...areas.map((area) => area.mask)];
    [lineArt, strokes, ...masks].forEach((picture, index) => {
      const surface = this.#surfaces[index];
      surface.clear();
      if (picture) surface.place(picture, "contain");
    });
    this.#surfaces.slice(2).forEach((surface) => surface.makeMask());
    for (const layer of [this.lineArt, this.strokes, this.mask, this.areaLayer]) layer.isVisible = true;
    this.#undo.clear();
    this.update();
  }

  /** Shows the current state in the page. */
  update() {
    this.#listener.updated();
  }

  /** Shows the current state in the page, and tells the listener that the painting has changed. */
  changed() {
    this.update();
    this.#listener.changed();
  }

  /**
   * Changes a surface so that the change can be undone.
   * @param {Surface} surface
   * @param {() => void} change
   */
  #edit(surface, change) {
    this.begin(surface);
    change();
    this.end(surface, { x: 0, y: 0, width: this.width, height: this.height });
  }

  /**
   * Begins a change of a surface's pixels. Returns a copy of the surface before the change.
   * @param {Surface} surface
   */
  begin(surface) {
    this.#before.clear();
    this.#before.context.drawImage(surface.canvas, 0, 0);
    return this.#before;
  }

  /**
   * Takes back a change of a surface's pixels that has not ended.
   * @param {Surface} surface
   */
  cancel(surface) {
    surface.clear();
    surface.context.drawImage(this.#before.canvas, 0, 0);
    this.update();
  }

  /**
   * Ends a change of a surface's pixels, which can then be undone.
   * @param {Surface} surface
   * @param {Box} box the changed area, in whole pixels
   */
  end(surface, { x, y, width, height }) {
    const before = this.#before.context.getImageData(x, y, width, height);
    const after = surface.context.getImageData(x, y, width, height);
    const put = (/** @type {ImageData} */ pixels) => surface.context.putImageData(pixels, x, y);
    this.#undo.push({ undo: () => put(before), redo: () => put(after) });
    this.changed();
  }

  /**
   * Exchanges the list of areas so that the change can be undone.
   * @param {Area[]} areas
   * @param {Area | null} chosenArea
   */
  #exchange(areas, chosenArea) {
    const before = { areas: this.areas, chosenArea: this.chosenArea };
    const after = { areas, chosenArea };
    Object.assign(this, after);
    this.#undo.push({ undo: () => Object.assign(this, before), redo: () => Object.assign(this, after) });
  }
}
