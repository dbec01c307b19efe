// Elements without HTML text: whatever programs control becomes a text node, never markup.

export const $ = (id) => document.getElementById(id);

// el("td", {class: "number", onclick: f, style: {height: "3px"}, "aria-sort": "none"}, "text", child, ...)
export function el(tag, members = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(members)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((each) => each !== null && each !== undefined).map((each) => (each instanceof Node ? each : String(each))));
  return node;
}

export const fill = (node, ...children) => node.replaceChildren(...children.filter((each) => each !== null && each !== undefined));

// Only changes what differs, so that screen readers and selections are left alone.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const tone = (name) => ({ "--tone": `var(--${name})` });

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// `paint` is called at most so often, and only while it is wanted: dirty() asks for it.
export function throttle(paint, every = 250) {
  let timer = 0;
  let last = 0;
  return () => {
    if (timer) return;
    const wait = Math.max(0, last + every - performance.now());
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      paint();
    }, wait);
  };
}
