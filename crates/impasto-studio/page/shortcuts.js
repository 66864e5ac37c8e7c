import { byId } from "./dom.js";

/** Fields in which letters are text. */
const TEXT = "textarea, select, input:not([type=range], [type=checkbox], [type=color], [type=file])";

/**
 * Listens for keyboard shortcuts.
 * @param {object} actions
 * @param {() => void} actions.paint
 * @param {() => void} actions.cancel
 * @param {() => void} actions.undo
 * @param {() => void} actions.redo
 * @param {Record<string, () => void>} actions.keys actions of single keys, which do nothing in text fields
 */
export function listenForShortcuts({ paint, cancel, undo, redo, keys }) {
  const help = byId("shortcuts", HTMLDialogElement);
  const showHelp = () => help.showModal();
  byId("help", HTMLButtonElement).addEventListener("click", showHelp);
  /** @type {Record<string, () => void>} */
  const plain = { ...keys, "?": showHelp };

  /**
   * @param {KeyboardEvent} event
   * @returns {(() => void) | undefined}
   */
  const actionOf = (event) => {
    const isTyping = event.target instanceof Element && event.target.matches(TEXT);
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    // Keyboards with AltGr type some characters, such as brackets, with Ctrl and Alt.
    const isCommand = (event.ctrlKey || event.metaKey) && !event.getModifierState("AltGraph");
    if (isCommand && key === "Enter") return paint;
    if (key === "Escape") return cancel;
    if (isTyping) return undefined;
    if (isCommand && key === "z") return event.shiftKey ? redo : undo;
    if (isCommand && key === "y") return redo;
    return isCommand ? undefined : plain[key];
  };

  document.addEventListener("keydown", (event) => {
    // An open dialog or popover has its own keys: Escape closes it.
    if (document.querySelector("dialog[open], :popover-open")) return;
    const action = actionOf(event);
    if (!action) return;
    event.preventDefault();
    action();
  });
}
