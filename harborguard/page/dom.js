// Build the document. Data only ever becomes text nodes and attributes, never HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...nodesOf(children));
  return element;
}

const nodesOf = (children) => children.flat(Infinity).filter((child) => child || child === 0);

/** Return an element. An attribute `onclick` is a listener; null and false are left out. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Return an element of an inline drawing. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export const byId = (id) => document.getElementById(id);

// A click needs the button of the press at the release. What holds it is replaced afterwards.
let pressed = null;
const delayed = new Map();
for (const type of ["pointerdown", "keydown"]) {
  addEventListener(type, ({ button, target }) => {
    pressed = button ? null : target.closest("button");
  });
}
for (const type of ["pointerup", "pointercancel", "keyup", "blur"]) {
  addEventListener(type, () => setTimeout(() => {
    pressed = null;
    for (const [element, children] of delayed) replace(element, ...children);
  }));
}

/** Replace the content of an element; the focus stays on the element with the same `data-key`. */
export function replace(element, ...children) {
  delayed.delete(element);
  if (pressed && element.contains(pressed)) {
    delayed.set(element, children);
    return;
  }
  const active = document.activeElement;
  const key = element.contains(active) && active.dataset.key;
  element.replaceChildren(...nodesOf(children));
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** Say something to people who use a screen reader. With `isShown`, also show it for a while. */
export function announce(text, isShown = false) {
  // While a dialog is open, the rest of the document is not read.
  const status = byId(byId("image").open ? "image-status" : "status");
  status.replaceChildren(el("span", { class: isShown ? "toast" : "sr" }, text));
}

const ICONS = {
  copy: "M5 5V2h9v9h-3v3H2V5zm1.500 0H11v4.500h1.500v-6h-6z",
  close: "m4 3 4 4 4-4 1 1-4 4 4 4-1 1-4-4-4 4-1-1 4-4-4-4z",
};

export function icon(name) {
  const path = svg("path", { d: ICONS[name], "fill-rule": "evenodd" });
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, path);
}

/** Return a button that copies a text. `label` says what it copies. */
export function copyButton(text, label, caption) {
  const name = caption ? {} : { "aria-label": label, title: label };
  const attributes = { type: "button", class: caption ? null : "copy", ...name };
  const copy = () => copyText(text()).then(
    () => announce("Copied.", true),
    () => announce(`The browser does not allow copying: ${text()}`, true),
  );
  return el("button", { ...attributes, onclick: copy }, icon("copy"), caption);
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Over plain HTTP, browsers have only this older way.
  const area = el("textarea", { readonly: true, class: "sr" });
  const active = document.activeElement;
  area.value = text;
  (active.closest("dialog") ?? document.body).append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  active.focus();
  if (!copied) throw new Error("not copied");
}
