import { byId, copyOf, create, within } from "./dom.js";
import { decoded, encoded } from "./pictures.js";

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {import("./api.js").Follow} Follow
 * @typedef {import("./api.js").Like} Like
 * @typedef {import("./more.js").Description} Description
 *
 * A picture that the run follows by a network, or draws like.
 * @typedef {object} Followed
 * @property {HTMLImageElement} picture
 * @property {string} net name of the network; "" for a picture to draw like
 * @property {number | null} strength null for the network's own
 * @property {string} phrase thing that is drawn like the picture; "" for the whole picture
 * @property {string | null} type type of the picture, for a union of ControlNets
 * @property {object} rest settings that the page does not show
 */

/** Strength of pictures to draw like, which leaves room for the text. */
const STRENGTH = 0.7;

/** The pictures that the run follows by the networks that the server was started with. */
export class FollowedPictures {
  #panel = byId("followed", HTMLDetailsElement);
  #list = byId("followed-pictures", HTMLUListElement);
  #strengthField = byId("like-strength-field", HTMLElement);
  #strength = byId("like-strength", HTMLInputElement);
  #numbers;
  #changed;
  /** @type {Map<Followed, HTMLElement>} */
  #rows = new Map();
  #count = 0;
  /** @type {{net: string, name: string, union: boolean}[]} */
  #kinds = [];
  /** @type {string[]} */
  #types = [];

  /**
   * @param {import("./numbers.js").NumberFields} numbers
   * @param {{changed: () => void, opened: (file: Blob) => void}} events
   */
  constructor(numbers, { changed, opened }) {
    this.#numbers = numbers;
    this.#changed = changed;
    numbers.watch(this.#strength);
    this.#strength.addEventListener("change", changed);
    const field = byId("followed-open", HTMLInputElement);
    field.addEventListener("change", () => {
      for (const file of field.files ?? []) opened(file);
      field.value = ""; // so that the same file can be opened again
    });
  }

  /** True if the server can follow a picture. */
  get isOffered() {
    return this.#kinds.length > 0;
  }

  /**
   * @param {Model} model
   * @param {Description} description
   */
  setModel({ nets, ip_adapter: hasAdapter }, { components: { schemas } }) {
    const like = hasAdapter ? [{ net: "", name: "Draw like it", union: false }] : [];
    this.#kinds = [...like, ...nets.map(({ name, union }) => ({ net: name, name: `Follow: ${name}`, union }))];
    this.#types = (schemas.ControlType?.oneOf ?? []).flatMap((choice) => choice.const ?? []);
    // A row for a network that the model does not have is gone; the others have the model's networks.
    const kept = [...this.#rows.keys()].filter(({ net }) => this.#knows(net));
    for (const one of [...this.#rows.keys()]) this.#remove(one, kept.includes(one));
    for (const one of kept) this.#put(one);
    this.#update();
    this.#panel.hidden = !this.isOffered;
    byId("use-followed", HTMLButtonElement).hidden = !this.isOffered;
  }

  /** @param {HTMLImageElement} picture */
  add(picture) {
    const { net } = this.#kinds[0];
    this.#put({ picture, net, strength: net ? null : 1, phrase: "", type: null, rest: {} });
    this.#panel.open = true;
    this.#update();
  }

  /**
   * Returns the fields of a request.
   * @param {number} side longest side of a picture
   */
  request(side) {
    const followed = [...this.#rows.keys()];
    const controls = followed.filter(({ net }) => net).map(({ picture, net, strength, type, rest }) => {
      return { ...rest, net, picture: encoded(picture, side), scale: strength, control_type: type };
    });
    const likes = followed.filter(({ net }) => !net).map(({ picture, strength, phrase, rest }) => {
      const isPlaced = phrase || "mask" in rest;
      return { ...rest, picture: encoded(picture, side), phrase: phrase || null, strength: isPlaced ? strength ?? 1 : 1 };
    });
    const strength = likes.length > 0 ? Number(this.#strength.value) : null;
    return { controls, ip_adapter_pictures: likes, ip_adapter_strength: strength };
  }

  /**
   * Names what this server lacks for the pictures of a request, in a sentence each.
   * @param {Partial<import("./api.js").Request>} request
   */
  missing({ controls = [], ip_adapter_pictures: likes = [] }) {
    const nets = new Set(controls.map(({ net }) => net).filter((net) => !this.#knows(net)));
    const notes = [...nets].map((net) => `This studio has no network ${net}, so its picture is left out.`);
    if (likes.length === 0 || this.#knows("")) return notes;
    return [...notes, "This studio has no IP-Adapter, so the pictures to draw like are left out."];
  }

  /** @param {string} name name of a network; "" for the IP-Adapter */
  #knows(name) {
    return this.#kinds.some(({ net }) => net === name);
  }

  /**
   * Shows the pictures of a request. Those that this server cannot follow are left out.
   * @param {Partial<import("./api.js").Request>} request
   */
  async restore({ controls = [], ip_adapter_pictures: likes = [], ip_adapter_strength: strength }) {
    /** @type {Followed[]} */
    const followed = [];
    for (const { net, picture, scale = null, control_type: type = null, ...rest } of controls) {
      if (this.#knows(net)) followed.push({ picture: await decoded(picture), net, strength: scale, phrase: "", type, rest });
    }
    for (const { picture, strength: own = 1, phrase, ...rest } of this.#knows("") ? likes : []) {
      const shown = await decoded(picture);
      followed.push({ picture: shown, net: "", strength: own, phrase: phrase ?? "", type: null, rest });
    }
    for (const one of [...this.#rows.keys()]) this.#remove(one);
    for (const one of followed) this.#put(one);
    this.#strength.value = String(strength ?? (likes.length > 0 ? 1 : STRENGTH));
    this.#panel.open ||= followed.length > 0;
    this.#update();
  }

  /** @param {Followed} followed */
  #put(followed) {
    const row = copyOf("followed-template");
    within(row, "img", HTMLImageElement).src = followed.picture.src;
    const kind = within(row, ".kind", HTMLSelectElement);
    const type = within(row, ".type", HTMLSelectElement);
    const phrase = within(row, ".place", HTMLInputElement);
    const strength = within(row, ".strength", HTMLInputElement);
    kind.replaceChildren(...this.#kinds.map(({ net, name }) => create("option", { value: net }, name)));
    const named = this.#types.map((name) => create("option", { value: name }, name.replaceAll("_", " ")));
    type.replaceChildren(...named);
    const show = () => {
      const isUnion = this.#kinds.some(({ net, union }) => net === followed.net && union);
      followed.type = isUnion ? (followed.type ?? this.#types[0] ?? null) : null;
      kind.value = followed.net;
      type.value = followed.type ?? "";
      strength.value = String(followed.strength ?? "");
      type.hidden = !isUnion;
      phrase.hidden = followed.net !== "";
      // All pictures to draw like without a place have one strength.
      strength.hidden = !followed.net && !followed.phrase && !("mask" in followed.rest);
      strength.min = followed.net ? "0" : "-10";
      this.#showStrength();
    };
    const listen = (/** @type {HTMLSelectElement} */ field, /** @type {() => void} */ read) => {
      field.addEventListener("change", () => {
        read();
        show();
        this.#changed();
      });
    };
    listen(kind, () => {
      // Settings that the page does not show belong to the network.
      Object.assign(followed, { net: kind.value, strength: kind.value ? null : 1, rest: {} });
    });
    listen(type, () => (followed.type = type.value));
    phrase.value = followed.phrase;
    phrase.addEventListener("input", () => {
      followed.phrase = phrase.value.trim();
      show();
    });
    strength.addEventListener("input", () => {
      followed.strength = strength.value === "" ? null : Number(strength.value);
    });
    for (const field of [phrase, strength]) field.addEventListener("change", this.#changed);
    strength.id = `followed-strength-${this.#count++}`;
    this.#numbers.watch(strength);
    within(row, ".remove", HTMLButtonElement).addEventListener("click", () => {
      this.#remove(followed);
      this.#update();
      this.#changed();
    });
    this.#rows.set(followed, row);
    show();
  }

  /**
   * @param {Followed} followed
   * @param {boolean} [isKept] true if the picture gets another row
   */
  #remove(followed, isKept = false) {
    const row = this.#rows.get(followed);
    if (!row) return;
    this.#numbers.forget(within(row, ".strength", HTMLInputElement));
    if (!isKept) URL.revokeObjectURL(followed.picture.src);
    this.#rows.delete(followed);
  }

  #update() {
    this.#list.replaceChildren(...this.#rows.values());
    this.#showStrength();
  }

  /** Shows the strength that all pictures to draw like have, if there is one. */
  #showStrength() {
    this.#strengthField.hidden = ![...this.#rows.keys()].some(({ net }) => !net);
  }
}
