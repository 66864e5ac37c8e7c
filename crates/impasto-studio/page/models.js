import { byId, create } from "./dom.js";

/** The model in use, and the models of the server's folders to choose from. */
export class ModelChoice {
  #name = byId("model", HTMLElement);
  #field = byId("model-choice", HTMLSelectElement);
  /** @type {string | null} the model in use, if there is a choice */
  chosen = null;

  /** @param {(name: string) => void} choose */
  constructor(choose) {
    this.#field.addEventListener("change", () => {
      const { value } = this.#field;
      this.#field.value = this.chosen ?? ""; // until the model is loaded
      choose(value);
    });
  }

  /** @param {import("./api.js").Model} model */
  setModel({ name, colorizes, choice, choices }) {
    this.chosen = choice;
    this.#field.replaceChildren(...choices.map((value) => create("option", { value }, value)));
    this.#field.value = choice ?? "";
    this.#field.hidden = choices.length < 2;
    this.#name.hidden = !this.#field.hidden;
    this.#name.textContent = colorizes ? `${name} (colors line art)` : name;
  }

  /**
   * Returns true if a model can be loaded in place of the one in use.
   * @param {string} name
   */
  offers(name) {
    return name !== this.chosen && [...this.#field.options].some(({ value }) => value === name);
  }

  set isLocked(/** @type {boolean} */ isLocked) {
    this.#field.disabled = isLocked;
  }
}
