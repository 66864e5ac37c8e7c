import { byId, press } from "./dom.js";

/** Key of the chosen theme in the browser's storage. */
const KEY = "impasto-studio-theme";

/** Lets the user choose light or dark colors. Without a choice, the page follows the system's setting. */
export function listenForTheme() {
  const root = document.documentElement;
  const button = byId("theme", HTMLButtonElement);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const chosen = localStorage.getItem(KEY);
    if (chosen) root.dataset.theme = chosen;
    press(button, (chosen ?? (system.matches ? "dark" : "light")) === "dark");
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, button.getAttribute("aria-pressed") === "true" ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}
