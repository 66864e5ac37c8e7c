import { create } from "./dom.js";

/** The fields for numbers. A number that is not allowed stays as it is typed, with a sentence on what is wrong. */
export class NumberFields {
  /** @type {Map<HTMLInputElement, HTMLElement>} each field with its sentence */
  #notes = new Map();

  /**
   * Watches a field, whose limits can change later.
   * @param {HTMLInputElement} field
   */
  watch(field) {
    const note = create("p", { className: "problem", id: `${field.id}-problem`, hidden: true });
    field.closest(".field")?.append(note);
    const others = field.getAttribute("aria-describedby");
    field.setAttribute("aria-describedby", others ? `${others} ${note.id}` : note.id);
    this.#notes.set(field, note);
    field.addEventListener("change", () => this.#show(field, note));
    // A user who is still typing is not told of a mistake, but of its correction at once.
    field.addEventListener("input", () => {
      if (!note.hidden) this.#show(field, note);
    });
  }

  /**
   * Ends the watch over a field that leaves the page.
   * @param {HTMLInputElement} field
   */
  forget(field) {
    this.#notes.delete(field);
  }

  /**
   * Shows what is wrong with the fields.
   * @returns {{field: HTMLInputElement, problem: string} | null} the first wrong field
   */
  check() {
    const wrong = [...this.#notes].map(([field, note]) => ({ field, problem: this.#show(field, note) }));
    return wrong.find(({ problem }) => problem) ?? null;
  }

  /**
   * @param {HTMLInputElement} field
   * @param {HTMLElement} note
   */
  #show(field, note) {
    const problem = problemOf(field);
    note.textContent = problem;
    note.hidden = !problem;
    field.ariaInvalid = String(problem !== "");
    return problem;
  }
}

/**
 * Says what is wrong with the number in a field, what is allowed, and what is near it. Returns "" for a number that is
 * allowed. The field's `data-more` is the program's option that allows larger numbers.
 * @param {HTMLInputElement} field
 */
export function problemOf(field) {
  const name = field.ariaLabel ?? field.labels?.[0]?.textContent?.trim() ?? "The number";
  if (field.validity.badInput) return `${name} is not a number. Use ${allowedIn(field)}.`;
  if (field.value === "") return field.required ? `${name} is missing. Use ${allowedIn(field)}.` : "";
  const value = Number(field.value);
  const [least, most] = limitsOf(field);
  const step = stepOf(field);
  const isWithin = value >= least && value <= most;
  if (isWithin && (step === 0 || value % step === 0)) return "";
  const below = Math.floor(value / step) * step;
  const near = [below, below + step].filter((number) => number >= least && number <= most);
  const proposal = isWithin ? `, such as ${near.join(" or ")}` : "";
  const { more } = field.dataset;
  const larger = more && value > most ? ` The program's option ${more} allows more.` : "";
  return `${name} is ${field.value}. Use ${allowedIn(field)}${proposal}.${larger}`;
}

/** @param {HTMLInputElement} field */
function allowedIn(field) {
  const step = stepOf(field);
  const kind = step === 0 ? "a number" : step === 1 ? "a whole number" : `a multiple of ${step}`;
  const [least, most] = limitsOf(field);
  if (most !== Infinity) return `${kind} from ${least} to ${most}`;
  return least === -Infinity ? kind : `${kind} of at least ${least}`;
}

/**
 * Returns the step between whole numbers; 0 if any number is allowed.
 * @param {HTMLInputElement} field
 */
function stepOf({ step }) {
  return Number.isInteger(Number(step)) ? Number(step) : 0;
}

/**
 * @param {HTMLInputElement} field
 * @returns {[number, number]}
 */
function limitsOf({ min, max }) {
  return [min === "" ? -Infinity : Number(min), max === "" ? Infinity : Number(max)];
}
