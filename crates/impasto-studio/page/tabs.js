import { byId, moveByArrows } from "./dom.js";

/** @typedef {"canvas" | "picture"} TabName */

/** @type {TabName[]} */
const TABS = ["canvas", "picture"];

/** The tabs of canvas and picture. On a wide page both are shown, and the tabs are not. */
export class Tabs {
  #work = byId("work", HTMLElement);

  constructor() {
    for (const name of TABS) byId(`tab-${name}`, HTMLButtonElement).addEventListener("click", () => this.choose(name));
    moveByArrows(byId("tabs", HTMLElement));
    this.choose("picture");
  }

  /** @param {TabName} name */
  choose(name) {
    this.#work.dataset.tab = name;
    for (const each of TABS) {
      const tab = byId(`tab-${each}`, HTMLButtonElement);
      tab.setAttribute("aria-selected", String(each === name));
      tab.tabIndex = each === name ? 0 : -1;
    }
  }
}
