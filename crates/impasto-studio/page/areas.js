import { byId, copyOf, press, within } from "./dom.js";

/**
 * @typedef {import("./drawing.js").Drawing} Drawing
 * @typedef {import("./layers.js").Area} Area
 */

/** The list of areas: phrase, display color and strength of each. */
export class AreaPanel {
  #drawing;
  #panel = byId("area-panel", HTMLElement);
  #list = byId("areas", HTMLUListElement);
  #add = byId("add-area", HTMLButtonElement);
  /** @type {Map<Area, HTMLElement>} */
  #rows = new Map();

  /** @param {Drawing} drawing */
  constructor(drawing) {
    this.#drawing = drawing;
    this.#add.addEventListener("click", () => drawing.addArea());
  }

  update() {
    const { areas, chosenArea, chosenLayer, canAddArea } = this.#drawing;
    this.#panel.hidden = chosenLayer !== "areas";
    this.#add.disabled = !canAddArea;
    const isSame = areas.length === this.#rows.size && areas.every((area) => this.#rows.has(area));
    // Existing rows stay, so that a field keeps its focus while the user types.
    if (!isSame) {
      this.#rows = new Map(areas.map((area) => [area, this.#rows.get(area) ?? this.#row(area)]));
      this.#list.replaceChildren(...this.#rows.values());
    }
    for (const [area, row] of this.#rows) press(within(row, ".choose", HTMLButtonElement), area === chosenArea);
  }

  /** @param {Area} area */
  #row(area) {
    const drawing = this.#drawing;
    const row = copyOf("area-template");
    const color = within(row, "[type=color]", HTMLInputElement);
    const phrase = within(row, "[type=text]", HTMLInputElement);
    const strength = within(row, "[type=range]", HTMLInputElement);
    const text = within(row, "output", HTMLOutputElement);
    const choose = () => {
      drawing.chosenArea = area;
      drawing.update();
    };
    color.value = area.color;
    phrase.value = area.phrase;
    // A recipe may have a greater strength than the slider offers.
    strength.max = String(Math.max(Number(strength.max), area.strength));
    strength.value = String(area.strength);
    text.value = strength.value;
    within(row, ".choose", HTMLButtonElement).addEventListener("click", choose);
    phrase.addEventListener("focus", choose);
    color.addEventListener("input", () => {
      area.color = color.value;
      drawing.update();
    });
    phrase.addEventListener("input", () => (area.phrase = phrase.value));
    strength.addEventListener("input", () => {
      area.strength = Number(strength.value);
      text.value = strength.value;
    });
    for (const field of [phrase, strength]) field.addEventListener("change", () => drawing.changed());
    within(row, ".remove", HTMLButtonElement).addEventListener("click", () => drawing.removeArea(area));
    return row;
  }
}
