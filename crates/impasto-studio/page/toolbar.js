import { byId, press } from "./dom.js";

/**
 * @typedef {import("./drawing.js").Drawing} Drawing
 * @typedef {import("./drawing.js").LayerName} LayerName
 * @typedef {import("./drawing.js").Tool} Tool
 */

/** @type {LayerName[]} */
const LAYERS = ["line-art", "strokes", "areas", "mask"];
/** @type {Tool[]} */
const TOOLS = ["brush", "eraser", "lasso", "pipette", "hand"];

const HINTS = {
  "line-art": "Black lines on white paper. The picture follows them.",
  strokes: "Strokes of color. The objects under them get these colors.",
  areas: "Each area shows where a phrase of the prompt is painted.",
  mask: "The red part of the start picture is repainted.",
};
const NO_START = "A mask needs a start picture: drop one, or choose “Use as…” below a picture.";
const NO_LINES = "This model does not follow line art.";

/** The buttons of layers and tools. */
export class Toolbar {
  #drawing;
  #color = byId("brush-color", HTMLInputElement);
  #size = byId("brush-size", HTMLInputElement);
  #sizeText = byId("brush-size-text", HTMLOutputElement);
  #opacity = byId("brush-opacity", HTMLInputElement);
  #opacityText = byId("brush-opacity-text", HTMLOutputElement);
  #showLast = byId("show-last", HTMLInputElement);
  #soften = byId("soften", HTMLInputElement);
  #softenText = byId("soften-text", HTMLOutputElement);
  #hint = byId("layer-hint", HTMLElement);
  #undo = byId("undo", HTMLButtonElement);
  #redo = byId("redo", HTMLButtonElement);
  /** False if the model cannot follow line art. */
  followsLineArt = true;

  /** @param {Drawing} drawing */
  constructor(drawing) {
    this.#drawing = drawing;
    for (const name of LAYERS) {
      byId(`layer-${name}`, HTMLButtonElement).addEventListener("click", () => this.chooseLayer(name));
      byId(`show-${name}`, HTMLButtonElement).addEventListener("click", () => {
        const layer = drawing.layerNamed(name);
        layer.isVisible = !layer.isVisible;
        drawing.changed();
      });
    }
    for (const tool of TOOLS) {
      byId(`tool-${tool}`, HTMLButtonElement).addEventListener("click", () => this.chooseTool(tool));
    }
    this.#undo.addEventListener("click", () => drawing.undo());
    this.#redo.addEventListener("click", () => drawing.redo());
    byId("clear-layer", HTMLButtonElement).addEventListener("click", () => drawing.clear());
    this.#size.addEventListener("input", () => this.#setSize(Number(this.#size.value)));
    this.#opacity.addEventListener("input", () => {
      drawing.opacity = Number(this.#opacity.value) / 100;
      drawing.update();
    });
    this.#showLast.addEventListener("change", () => {
      drawing.showsLast = this.#showLast.checked;
      drawing.update();
    });
    this.#soften.addEventListener("input", () => {
      drawing.soften = Number(this.#soften.value);
      drawing.update();
    });
    this.#soften.addEventListener("change", () => drawing.changed());
    this.#color.addEventListener("input", () => (drawing.color = this.#color.value));
    drawing.color = this.#color.value;
  }

  /** @param {LayerName} name */
  chooseLayer(name) {
    this.#drawing.chosenLayer = name;
    this.#drawing.update();
  }

  /** @param {Tool} tool */
  chooseTool(tool) {
    this.#drawing.tool = tool;
    this.#drawing.update();
  }

  /**
   * Chooses the color of strokes, and their layer. The brush takes the place of the pipette.
   * @param {string} color
   */
  chooseColor(color) {
    this.#drawing.color = this.#color.value = color;
    if (this.#drawing.tool === "pipette") this.#drawing.tool = "brush";
    this.chooseLayer("strokes");
  }

  /**
   * Makes the tool larger or smaller by about a sixth.
   * @param {1 | -1} direction
   */
  changeSize(direction) {
    const { size } = this.#drawing.layer;
    this.#setSize(size + direction * Math.max(1, Math.round(size / 6)));
  }

  /** @param {number} size */
  #setSize(size) {
    this.#drawing.layer.size = Math.max(Number(this.#size.min), Math.min(size, Number(this.#size.max)));
    this.#drawing.update();
  }

  update() {
    const { chosenLayer, layer, tool, width, start, opacity, canUndo, canRedo } = this.#drawing;
    for (const name of LAYERS) {
      press(byId(`layer-${name}`, HTMLButtonElement), name === chosenLayer);
      press(byId(`show-${name}`, HTMLButtonElement), this.#drawing.layerNamed(name).isVisible);
    }
    for (const name of TOOLS) press(byId(`tool-${name}`, HTMLButtonElement), name === tool);
    this.#size.max = String(Math.max(16, Math.round(width / 3)));
    this.#size.value = String(layer.size);
    this.#sizeText.value = String(layer.size);
    this.#opacity.value = String(Math.round(opacity * 100));
    this.#opacityText.value = `${this.#opacity.value} %`;
    byId("soften-field", HTMLElement).hidden = chosenLayer !== "mask";
    this.#soften.value = this.#softenText.value = String(this.#drawing.soften);
    this.#color.disabled = chosenLayer !== "strokes";
    this.#undo.disabled = !canUndo;
    this.#redo.disabled = !canRedo;
    this.#hint.textContent = this.#hintOf(chosenLayer, start !== null);
  }

  /**
   * @param {LayerName} layer
   * @param {boolean} hasStart
   */
  #hintOf(layer, hasStart) {
    if (layer === "mask" && !hasStart) return NO_START;
    if (layer === "line-art" && !this.followsLineArt) return NO_LINES;
    return HINTS[layer];
  }
}
