/** @typedef {{undo: () => void, redo: () => void}} Change */

/** Maximum number of changes that can be undone. Each holds the pixels of its part of a layer twice. */
const MOST = 60;

/** The changes to a drawing, for undo and redo. */
export class UndoStack {
  /** @type {Change[]} */
  #done = [];
  /** @type {Change[]} */
  #undone = [];

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /**
   * Remembers a change that was made.
   * @param {Change} change
   */
  push(change) {
    this.#done.push(change);
    if (this.#done.length > MOST) this.#done.shift();
    this.#undone = [];
  }

  undo() {
    const change = this.#done.pop();
    if (!change) return;
    change.undo();
    this.#undone.push(change);
  }

  redo() {
    const change = this.#undone.pop();
    if (!change) return;
    change.redo();
    this.#done.push(change);
  }

  clear() {
    this.#done = [];
    this.#undone = [];
  }
}
