// Every system call, and what the kernel makes of it; those that this run made stand out.

import { coverage } from "./link.js";
import { el, fill, say, throttle } from "./dom.js";
import { count } from "./format.js";
import { store } from "./store.js";

const KINDS = ["supported", "partial", "refused", "missing"];

export class Coverage {
  constructor(node) {
    this.node = node;
    node.classList.add("coverage");
    this.search = el("input", { type: "search", placeholder: "name or family", "aria-label": "Search calls", autocomplete: "off", spellcheck: "false", oninput: () => this.#draw() });
    this.used = el("input", { type: "checkbox", onchange: () => this.#draw() });
    this.counts = el("span");
    this.cells = el("ul", { class: "cells", "aria-label": "System calls" });
    this.detail = el("div", { class: "detail", role: "status" }, "Choose a call to read what is said about it.");
    fill(node, el("div", { class: "head" }, this.search, el("label", { class: "tick" }, this.used, "made in this run"), this.counts), this.cells, this.detail);
    this.refresh = throttle(() => this.#mark(), 600);
    store.addEventListener("state", ({ detail }) => detail.includes("tally") && this.refresh());
  }

  async open() {
    if (this.rows) return this.#mark();
    say(this.counts, "loading the declarations…");
    try {
      this.rows = await coverage();
    } catch (error) {
      return say(this.counts, error.message);
    }
    this.#draw();
  }

  #arch() {
    return store.state.run.arch ?? "x86_64";
  }

  #draw() {
    if (!this.rows) return;
    const arch = this.#arch();
    const here = this.rows.filter((row) => row[arch] !== null && row[arch] !== undefined);
    const needle = this.search.value.trim().toLowerCase();
    const calls = store.state.tally.calls;
    const shown = here.filter((row) => (!needle || row.name.includes(needle) || row.family.includes(needle)) && (!this.used.checked || calls[row.name]));
    say(this.counts, `${here.length} calls of ${arch}: ${KINDS.map((kind) => `${here.filter((row) => row.status === kind).length} ${kind}`).join(", ")}; ${here.filter((row) => calls[row.name]).length} made in this run`);
    this.buttons = new Map();
    fill(this.cells, ...shown.map((row) => {
      const button = el("button", { type: "button", "aria-pressed": "false", data: { status: row.status }, title: row.status, onclick: () => this.#show(row) }, row.name);
      this.buttons.set(row.name, button);
      return el("li", {}, button);
    }));
    this.#mark();
  }

  #mark() {
    if (this.node.hidden || !this.buttons) return;
    for (const [name, button] of this.buttons) button.classList.toggle("used", name in store.state.tally.calls);
  }

  #show(row) {
    for (const [name, button] of this.buttons) button.setAttribute("aria-pressed", String(name === row.name));
    const made = store.state.tally.calls[row.name]?.count;
    const rows = [["status", row.status], ["number", `${row.x86_64 ?? "–"} on x86-64, ${row.riscv64 ?? "–"} on riscv64`], ["family", row.family || "–"], ["in this run", made ? `${count(made)} times` : "not called"]];
    if (row.notes) rows.splice(1, 0, [row.status === "partial" ? "except" : "why", row.notes]);
    fill(this.detail, el("h3", {}, row.name), el("dl", {}, ...rows.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])));
  }
}
