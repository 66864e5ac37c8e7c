/**
 * Returns the element with this id.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type class of the element
 * @returns {T}
 */
export function byId(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`The page has no ${type.name} with the id ${id}.`);
  return element;
}

/**
 * Returns the first element within `parent` that matches a selector.
 * @template {Element} T
 * @param {Element} parent
 * @param {string} selector
 * @param {new () => T} type class of the element
 * @returns {T}
 */
export function within(parent, selector, type) {
  const element = parent.querySelector(selector);
  if (!(element instanceof type)) throw new Error(`<${parent.localName}> has no ${type.name} matching ${selector}.`);
  return element;
}

/**
 * Returns a copy of the only element of a template.
 * @param {string} id id of the template
 * @returns {HTMLElement}
 */
export function copyOf(id) {
  const content = byId(id, HTMLTemplateElement).content.cloneNode(true);
  const element = /** @type {DocumentFragment} */ (content).firstElementChild;
  if (!(element instanceof HTMLElement)) throw new Error(`The template ${id} is empty.`);
  return element;
}

/**
 * Creates an element with properties and content.
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name
 * @param {Partial<HTMLElementTagNameMap[N]>} [properties]
 * @param {...(Node | string)} content
 * @returns {HTMLElementTagNameMap[N]}
 */
export function create(name, properties = {}, ...content) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...content);
  return element;
}

/**
 * Shows whether a toggle button is on.
 * @param {Element} button
 * @param {boolean} pressed
 */
export function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

/**
 * Lets the arrow keys, Home and End move the focus within a bar of buttons, so that the bar takes one Tab stop.
 * @param {HTMLElement} bar
 */
export function moveByArrows(bar) {
  const buttons = () => [...bar.querySelectorAll("button")];
  bar.addEventListener("keydown", (event) => {
    const all = buttons();
    const at = all.findIndex((button) => button === document.activeElement);
    const [after, before] = [at + 1, at - 1];
    const places = { ArrowRight: after, ArrowDown: after, ArrowLeft: before, ArrowUp: before, Home: 0, End: -1 };
    const next = places[/** @type {keyof typeof places} */ (event.key)];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    all.at(next % all.length)?.focus();
  });
  bar.addEventListener("focusin", (event) => {
    for (const button of buttons()) button.tabIndex = button === event.target ? 0 : -1;
  });
}
