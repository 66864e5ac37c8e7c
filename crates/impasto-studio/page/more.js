import { byId, create } from "./dom.js";

/**
 * A schema of the API's description, as far as this file reads it.
 * @typedef {object} Schema
 * @property {string} [$ref]
 * @property {string | string[]} [type]
 * @property {unknown} [default]
 * @property {string} [description]
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {Schema[]} [anyOf]
 * @property {Schema[]} [oneOf]
 * @property {string[]} [enum]
 * @property {string} [const]
 *
 * @typedef {HTMLInputElement | HTMLSelectElement} Field
 * @typedef {{components: {schemas: Record<string, Schema & {properties: Record<string, Schema>}>}}} Description
 */

const PICTURE = "#/components/schemas/Picture";
/**
 * The fields of a request for several values, each of which the server reads as a text.
 * @typedef {object} List
 * @property {string} label
 * @property {string} example
 * @property {string} between what separates the texts, beside spaces
 * @property {(value: any) => string} told returns a value as text
 */

/** @type {Record<string, List>} */
const LISTS = {
  palette: {
    label: "Palette: colors of the whole picture",
    example: "navy:3, #27408b:2, gold",
    between: ", ",
    told: ({ color, share = 1 }) => (share === 1 ? color : `${color}:${share}`),
  },
  same_color: {
    label: "Same color: things with the color of another",
    example: "hair=bow",
    between: ", ",
    told: ({ phrase, thing }) => `${phrase}=${thing}`,
  },
  guiders: {
    label: "Kinds of guidance",
    example: "pag:3 free-u",
    between: " ",
    told: ({ name, numbers = [] }) => (numbers.length > 0 ? `${name}:${numbers.join(",")}` : name),
  },
};
/** @type {Record<string, string>} labels of fields whose names say too little */
const LABELS = { syntax: "Prompt syntax" };
/** The fields of a request that other parts of the page show, or that act on what the page does not have. */
const ELSEWHERE = new Set([
  "prompt", "negative", "seed", "images", "steps", "sampler", "guidance_scale", "width", "height", "strength", "mask_where",
  "soften", "keep_colors", "exact_strokes", "seamless", "live", "model", "tolerance", "ip_adapter_strength",
]);

/** Further settings of a run: the plain fields of a request, as the API describes them. */
export class MoreSettings {
  #panel = byId("more", HTMLDetailsElement);
  /** @type {Map<string, Field>} */
  #fields = new Map();
  /** @type {Map<string, unknown>} */
  #defaults = new Map();
  #numbers;
  #changed;

  /**
   * @param {import("./numbers.js").NumberFields} numbers
   * @param {() => void} changed
   */
  constructor(numbers, changed) {
    this.#numbers = numbers;
    this.#changed = changed;
  }

  /** @param {Description} description */
  setDescription({ components: { schemas } }) {
    const shown = Object.entries(schemas.Request.properties).filter(([name]) => !ELSEWHERE.has(name));
    // The lists come first, because each takes a whole row.
    shown.sort(([a], [b]) => Number(b in LISTS) - Number(a in LISTS));
    for (const [name, schema] of shown) {
      const list = LISTS[name];
      const field = list ? create("input", { type: "text", autocomplete: "off" }) : fieldOf(resolved(schema, schemas));
      if (!field) continue;
      if (list && field instanceof HTMLInputElement) field.placeholder = list.example;
      field.id = `more-${name}`;
      field.title = schema.description ?? "";
      field.addEventListener("change", this.#changed);
      this.#fields.set(name, field);
      this.#defaults.set(name, schema.default ?? null);
      put(field, list ? "" : schema.default);
      const words = list?.label ?? LABELS[name] ?? name.replaceAll("_", " ");
      const label = create("label", { htmlFor: field.id }, words[0].toUpperCase() + words.slice(1));
      const className = list ? "field whole" : "field";
      byId("more-fields", HTMLElement).append(create("div", { className }, label, field));
      if (field instanceof HTMLInputElement && field.type === "number") this.#numbers.watch(field);
    }
    this.#panel.hidden = this.#fields.size === 0;
  }

  /** Returns the settings that differ from their defaults. */
  request() {
    const values = [...this.#fields].map(([name, field]) => [name, LISTS[name] ? textsOf(name, field) : valueOf(field)]);
    return Object.fromEntries(values.filter(([name, value]) => value !== null && value !== this.#defaults.get(name)));
  }

  /**
   * Shows the settings of a request, and the defaults of those that the request lacks.
   * @param {Record<string, unknown>} request
   */
  restore(request) {
    for (const [name, field] of this.#fields) {
      const value = request[name] ?? this.#defaults.get(name);
      put(field, LISTS[name] ? told(name, value) : value);
    }
    this.#panel.open ||= Object.keys(this.request()).length > 0;
  }
}

/**
 * Returns what a schema refers to, with the marks of a value that may be null taken off.
 * @param {Schema} schema
 * @param {Record<string, Schema>} schemas
 * @returns {Schema & {isOptional?: boolean}}
 */
function resolved(schema, schemas) {
  const [only, other] = schema.anyOf ?? [];
  if (only && other?.type === "null") return { ...resolved(only, schemas), isOptional: true };
  if (schema.$ref === PICTURE) return {};
  return schema.$ref ? schemas[schema.$ref.slice(schema.$ref.lastIndexOf("/") + 1)] : schema;
}

/**
 * Returns the field for values of a schema; null for values that no plain field shows.
 * @param {Schema & {isOptional?: boolean}} schema
 * @returns {Field | null}
 */
function fieldOf({ type, oneOf, enum: names, minimum, maximum, isOptional }) {
  const choices = names ?? oneOf?.flatMap((choice) => choice.const ?? choice.enum ?? []);
  if (choices?.length) {
    const options = choices.map((choice) => create("option", { value: choice }, spaced(choice)));
    if (isOptional) options.unshift(create("option", { value: "" }, "Default"));
    return create("select", {}, ...options);
  }
  const types = [type].flat();
  if (types.includes("boolean")) return create("input", { type: "checkbox" });
  if (types.includes("string")) return create("input", { type: "text", autocomplete: "off" });
  if (!types.includes("integer") && !types.includes("number")) return null;
  const step = types.includes("integer") ? "1" : "any";
  return create("input", { type: "number", step, min: String(minimum ?? ""), max: String(maximum ?? "") });
}

/**
 * Returns the name of a variant as words: "SgmUniform" as "Sgm uniform".
 * @param {string} name
 */
function spaced(name) {
  const words = name.replaceAll(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return words[0].toUpperCase() + words.slice(1);
}

/**
 * @param {Field} field
 * @param {unknown} value
 */
function put(field, value) {
  if (field instanceof HTMLInputElement && field.type === "checkbox") field.checked = Boolean(value);
  else field.value = String(value ?? "");
}

/**
 * Returns the texts in the field of a list; null for an empty field.
 * @param {string} name
 * @param {Field} field
 */
function textsOf(name, { value }) {
  const texts = value.split(LISTS[name].between.trim() || /\s+/).map((text) => text.trim()).filter(Boolean);
  return texts.length > 0 ? texts : null;
}

/**
 * Returns the values of a list as one text.
 * @param {string} name
 * @param {unknown} values
 */
function told(name, values) {
  const texts = Array.isArray(values) ? values : [];
  return texts.map((value) => (typeof value === "string" ? value : LISTS[name].told(value))).join(LISTS[name].between);
}

/** @param {Field} field */
function valueOf(field) {
  if (field instanceof HTMLInputElement && field.type === "checkbox") return field.checked;
  if (field.value === "") return null;
  return field.type === "number" ? Number(field.value) : field.value;
}
