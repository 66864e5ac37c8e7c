import { byId, create, moveByArrows } from "./dom.js";

/**
 * Offers the LoRAs of the server's folders, which a prompt can name.
 * @param {string[]} names
 * @param {(phrase: string) => void} add adds a LoRA to the prompt
 */
export function offerLoras(names, add) {
  const bar = byId("lora-names", HTMLElement);
  const chips = names.map((name, index) => {
    const chip = create("button", { type: "button", className: "chip", tabIndex: index === 0 ? 0 : -1 }, name);
    chip.addEventListener("click", () => add(`<lora:${name}:1>`));
    return chip;
  });
  bar.replaceChildren(...chips);
  moveByArrows(bar);
  byId("loras", HTMLDetailsElement).hidden = names.length === 0;
}
