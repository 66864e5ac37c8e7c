import { byId, create } from "./dom.js";
import { NumberFields, problemOf } from "./numbers.js";
import { SeedField } from "./seed.js";

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {import("./api.js").Request} Request
 * @typedef {import("./api.js").Detail} Detail
 */

/** Largest default number of steps of a live run. */
const LIVE_STEPS = 8;

/** The fields of a request that are neither pictures nor text. */
export class Settings {
  #images = byId("images", HTMLSelectElement);
  #steps = byId("steps", HTMLInputElement);
  #sampler = byId("sampler", HTMLSelectElement);
  #guidance = byId("guidance", HTMLInputElement);
  #width = byId("width", HTMLInputElement);
  #height = byId("height", HTMLInputElement);
  #liveSteps = byId("live-steps", HTMLInputElement);
  #strength = byId("strength", HTMLInputElement);
  #strengthText = byId("strength-text", HTMLOutputElement);
  #exactStrokes = byId("exact-strokes", HTMLInputElement);
  #keepColors = byId("keep-colors", HTMLInputElement);
  #larger = byId("larger", HTMLDetailsElement);
  #hires = byId("hires", HTMLSelectElement);
  #hiresStrength = byId("hires-strength", HTMLInputElement);
  #details = byId("details", HTMLInputElement);
  #seamless = byId("seamless", HTMLSelectElement);
  #listener;
  #isLive = false;
  #hasLiveModel = false;
  numbers = new NumberFields();

  /** @param {{changed: () => void, resized: () => void}} listener */
  constructor(listener) {
    this.#listener = listener;
    const { changed, resized } = listener;
    const numbers = [this.#steps, this.#guidance, this.#liveSteps, this.#width, this.#height, this.#hiresStrength];
    for (const field of [byId("seed", HTMLInputElement), ...numbers]) this.numbers.watch(field);
    const larger = [this.#hires, this.#hiresStrength, this.#details, this.#seamless];
    const others = [this.#sampler, this.#strength, this.#exactStrokes, this.#keepColors, ...larger];
    for (const field of [this.#steps, this.#guidance, this.#liveSteps, ...others]) {
      field.addEventListener("change", changed);
    }
    for (const side of [this.#width, this.#height]) side.addEventListener("change", resized);
    this.#strength.addEventListener("input", () => (this.#strengthText.value = this.#strength.value));
    this.seed = new SeedField(changed);
    byId("swap", HTMLButtonElement).addEventListener("click", () => {
      [this.#width.value, this.#height.value] = [this.#height.value, this.#width.value];
      this.numbers.check();
      resized();
    });
  }

  /** The size of the picture, or null while a side is not allowed. */
  get size() {
    if (problemOf(this.#width) || problemOf(this.#height)) return null;
    return { width: Number(this.#width.value), height: Number(this.#height.value) };
  }

  /** While live, a run has one picture, and the seed stays. */
  set isLive(/** @type {boolean} */ isLive) {
    this.#isLive = isLive;
    this.seed.isLive = isLive;
  }

  /**
   * Fills in the model's defaults and limits.
   * @param {Model} model
   */
  setModel({ width, height, multiple, steps, guidance_scale: guidance, live_steps: live, samplers, limits }) {
    for (const [field, side] of /** @type {const} */ ([[this.#width, width], [this.#height, height]])) {
      const least = String(multiple);
      const most = String(limits.side - (limits.side % multiple));
      Object.assign(field, { min: least, step: least, max: most, value: String(side) });
    }
    this.#steps.max = this.#liveSteps.max = String(limits.steps);
    this.#steps.value = String(steps);
    this.#hasLiveModel = live !== null;
    this.#liveSteps.value = String(live ?? Math.min(steps, LIVE_STEPS));
    this.#guidance.value = String(guidance);
    const [standard] = this.#sampler.options;
    this.#sampler.replaceChildren(standard, ...samplers.map((name) => create("option", { value: name }, name)));
    for (const option of this.#images.options) option.disabled = Number(option.value) > limits.images;
    this.#listener.resized();
  }

  /** Returns the part of a request that the fields hold. */
  request() {
    return {
      seed: this.seed.value,
      images: this.#isLive ? 1 : Number(this.#images.value),
      steps: numberOf(this.#steps),
      sampler: this.#sampler.value || null,
      guidance_scale: numberOf(this.#guidance),
      exact_strokes: this.#exactStrokes.checked,
      strength: Number(this.#strength.value),
      keep_colors: this.#keepColors.checked,
      hires: this.#hires.value
        ? { scale: Number(this.#hires.value), strength: Number(this.#hiresStrength.value) }
        : null,
      details: this.#details.value.trim() ? [this.#details.value.trim()] : [],
      seamless: this.#seamless.value,
    };
  }

  /** Returns the settings by which a live run differs. A model of live views has its own sampler and scale. */
  liveRequest() {
    const own = this.#hasLiveModel ? { sampler: null, guidance_scale: null } : {};
    return { steps: numberOf(this.#liveSteps), ...own };
  }

  /**
   * Shows the settings of a request. Fields stay unchanged if the request has no value for them.
   * @param {Partial<Request>} request
   */
  restore(request) {
    const { seed, images, steps, sampler, guidance_scale: guidance, exact_strokes: exact } = request;
    const { strength, keep_colors: keepsColors, hires, details, seamless } = request;
    const { width, height } = request.size ?? request;
    const put = (/** @type {HTMLInputElement} */ field, /** @type {number | null | undefined} */ value) => {
      if (value !== null && value !== undefined) field.value = String(value);
    };
    put(this.#steps, steps);
    put(this.#guidance, guidance);
    put(this.#width, width);
    put(this.#height, height);
    put(this.#strength, strength);
    this.#strengthText.value = this.#strength.value;
    this.#exactStrokes.checked = request.strokes ? (exact ?? false) : true;
    this.#keepColors.checked = keepsColors ?? false;
    offer(this.#hires, String(hires?.scale ?? ""));
    put(this.#hiresStrength, hires?.strength);
    this.#details.value = (details ?? []).map(told).filter(Boolean).join(", ");
    this.#seamless.value = seamless ?? "no";
    this.#larger.open ||= Boolean(hires || details?.length || (seamless ?? "no") !== "no");
    offer(this.#images, String(images ?? 1));
    offer(this.#sampler, sampler ?? "");
    this.seed.restore(seed ?? null, "Kept with these settings, until you unlock it.");
    this.numbers.check();
    this.#listener.resized();
  }
}

/**
 * Returns a detail as the field has it; null for a part that the page cannot show.
 * @param {Detail} detail
 */
function told(detail) {
  if (typeof detail === "string") return detail;
  return detail.thing.named?.phrase ?? null;
}

/**
 * Returns the number in a field, or null if the field is empty.
 * @param {HTMLInputElement} field
 */
function numberOf(field) {
  return field.value === "" ? null : Number(field.value);
}

/**
 * Chooses a value, which is added if the list does not have it.
 * @param {HTMLSelectElement} list
 * @param {string} value
 */
function offer(list, value) {
  if (![...list.options].some((option) => option.value === value)) list.append(create("option", { value }, value));
  list.value = value;
}
