// Makes elements. Text only ever becomes a text node, and every text goes through `revealed`: see text.js.

const SVG = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

// h("p", {class: "x", on: {click}}, "text", element, ...): an element; null, undefined and false children are left out.
function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value);
    }
  }
  put(element, children);
  return element;
}

function put(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : revealed(String(child)));
  }
}

// The first elements that `make` makes of items, and a button that puts the next ones in its place.
const AT_ONCE = 200;

function gradually(items, make, what) {
  const found = items.slice(0, AT_ONCE).map(make);
  const rest = items.slice(AT_ONCE);
  if (!rest.length) return found;
  const show = (event) => {
    const more = document.createDocumentFragment();
    for (const element of gradually(rest, make, what)) more.append(element);
    event.currentTarget.replaceWith(more);
  };
  const text = `Show ${count(Math.min(AT_ONCE, rest.length))} more of ${count(rest.length)} ${what}`;
  return [...found, h("button", { type: "button", class: "more gradual", on: { click: show } }, text)];
}

function replace(element, ...children) {
  element.replaceChildren();
  put(element, children);
}
