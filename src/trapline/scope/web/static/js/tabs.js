// Tabs with the keys that the ARIA Authoring Practices give them: arrows, Home, End.

import { $, el } from "./dom.js";

export class Tabs {
  // names: [id of the panel, title]; `shown(id)` is told which one is open.
  constructor(bar, names, shown) {
    this.buttons = new Map();
    this.shown = shown;
    for (const [id, title] of names) {
      const badge = el("span", { class: "badge" });
      const button = el("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": id, onclick: () => this.open(id) }, title, badge);
      button.addEventListener("keydown", (event) => this.#key(event, id));
      this.buttons.set(id, { button, badge });
      $(id).setAttribute("aria-labelledby", `tab-${id}`);
      bar.append(button);
    }
    this.open(names[0][0]);
  }

  open(id) {
    this.current = id;
    for (const [each, { button }] of this.buttons) {
      button.setAttribute("aria-selected", String(each === id));
      button.tabIndex = each === id ? 0 : -1;
      $(each).hidden = each !== id;
    }
    this.shown(id);
  }

  badge(id, text) {
    const { badge } = this.buttons.get(id);
    if (badge.textContent !== text) badge.textContent = text;
  }

  #key(event, id) {
    const ids = [...this.buttons.keys()];
    const at = ids.indexOf(id);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: ids.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = ids[(to + ids.length) % ids.length];
    this.open(next);
    this.buttons.get(next).button.focus();
  }
}
