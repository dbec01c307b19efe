// An address space: its areas on a map and in a table, its page tables, what the machine has cached of them, and walks.

import { ask } from "./link.js";
import { el, fill, say, throttle, tone } from "./dom.js";
import { bytes, count, duration, hex } from "./format.js";
import { store } from "./store.js";
import { walkView } from "./walk.js";

const TONES = { program: "c-process", heap: "c-time", stack: "c-signal", library: "c-file", file: "c-file", shared: "c-network", anon: "c-memory", vdso: "c-other" };
const FAR = 1n << 30n;

export class Memory {
  constructor(node) {
    this.node = node;
    node.classList.add("memory");
    this.choice = el("select", { "aria-label": "Process", onchange: () => this.look() });
    this.again = el("button", { type: "button", onclick: () => this.look() }, "Look again");
    this.address = el("input", { name: "address", size: "16", placeholder: "0x7ffc…", autocomplete: "off", spellcheck: "false", "aria-label": "Address" });
    const form = el("form", { class: "row" }, el("label", { class: "row" }, "Walk to ", this.address), el("button", { type: "submit" }, "Walk"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.walk(this.address.value);
    });
    this.said = el("p", { class: "note", role: "status" }, "Choose a process.");
    this.body = el("div", { class: "body", hidden: true });
    this.walked = el("section", { class: "walk", hidden: true, "aria-label": "Page walk", tabindex: "-1" });
    fill(node, el("div", { class: "head" }, el("label", { class: "row" }, "Process ", this.choice), this.again, form), this.said, this.walked, this.body);
    this.paint = throttle(() => this.#options(), 500);
    store.addEventListener("state", this.paint);
  }

  open() {
    this.#options();
    if (this.choice.value && !this.space) this.look();
  }

  #options() {
    if (this.node.hidden) return;
    const live = new Map(store.state.tasks.list.filter((each) => each.tid === each.pid).map((each) => [each.pid, `${each.pid} ${each.command}`]));
    for (const each of store.state.kept ?? []) if (!live.has(each.pid)) live.set(each.pid, `${each.pid} ${each.command}, ended`);
    const sorted = [...live].sort((a, b) => a[0] - b[0]);
    const wanted = sorted.map(([pid, text]) => `${pid}=${text}`).join("\n");
    if (wanted === this.known) return;
    this.known = wanted;
    const chosen = this.choice.value;
    fill(this.choice, ...sorted.map(([pid, text]) => el("option", { value: String(pid) }, text)));
    if (live.has(Number(chosen))) this.choice.value = chosen;
    if (!live.size) say(this.said, store.state.run.status === "saved" ? "A saved trace holds calls, not memory." : "No process has memory yet.");
    else if (!this.space) this.look();
  }

  async look() {
    const pid = Number(this.choice.value);
    if (!pid) return;
    try {
      this.space = await ask({ do: "space", pid });
      this.#draw();
    } catch (error) {
      this.space = null;
      this.said.hidden = false;
      say(this.said, error.message);
      this.body.hidden = true;
    }
  }

  async walk(text) {
    const pid = Number(this.choice.value);
    this.walked.hidden = false;
    try {
      fill(this.walked, ...walkView(await ask({ do: "walk", pid, address: text.trim() })));
      this.address.value = text.trim();
    } catch (error) {
      fill(this.walked, el("p", { class: "error", role: "status" }, error.message));
    }
    for (const each of this.node.querySelectorAll("[data-start]")) each.setAttribute("aria-pressed", String(each.dataset.start === text));
    this.walked.scrollIntoView({ block: "nearest" });
  }

  #draw() {
    const space = this.space;
    this.said.hidden = true;
    this.body.hidden = false;
    fill(this.body, this.#map(space), el("div", {}, this.#table(space), this.#cards(space)));
  }

  // From the top of user space down, as it is usually drawn; heights grow with the logarithm of the size.
  #map(space) {
    const items = [];
    let below = null;
    for (const area of [...space.areas].reverse()) {
      if (below !== null) {
        const gap = BigInt(below) - BigInt(area.end);
        if (gap >= FAR) items.push(el("li", { class: "gap" }, `⋮ ${bytes(Number(gap))}`));
      }
      below = area.start;
      const size = area.end - area.start;
      const height = 1.35 + Math.max(0, Math.log2(size / 4096)) * 0.09;
      items.push(el("li", {}, el("button", { type: "button", "aria-pressed": "false", data: { start: hex(area.start) }, title: `${area.name || area.kind} ${area.rights}, ${bytes(size)}: walk to its start`, onclick: () => this.walk(hex(area.start)), style: { ...tone(TONES[area.kind] ?? "c-other"), height: `${height}rem` } }, el("span", {}, label(area)), el("span", { class: "faint" }, area.rights))));
    }
    return el("ol", { class: "map", "aria-label": "Address space, from its top down" }, ...items);
  }

  #table(space) {
    const heads = [["Start"], ["Size", "number"], ["Rights"], ["Present", "number"], ["Dirty", "number"], ["Shared", "number"], ["Area"]];
    const rows = space.areas.map((area) => el("tr", { class: "pick", onclick: () => this.walk(hex(area.start)) },
      el("td", {}, el("button", { type: "button", class: "bare mono", data: { start: hex(area.start) } }, hex(area.start))),
      el("td", { class: "number" }, bytes(area.end - area.start)), el("td", {}, area.rights),
      ...[area.rss, area.dirty, area.shared].map((size) => el("td", { class: size ? "number" : "number faint" }, size ? bytes(size) : "–")),
      el("td", {}, area.name || el("span", { class: "faint" }, area.kind))));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Areas" }, el("table", { class: "areas" }, el("thead", {}, el("tr", {}, ...heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)))), el("tbody", {}, ...rows)));
  }

  #cards(space) {
    const sum = (name) => space.areas.reduce((total, area) => total + area[name], 0);
    const size = space.areas.reduce((total, area) => total + area.end - area.start, 0);
    const levels = space.levels.map((level) => el("p", {}, `${level.name}: ${count(level.tables)} ${level.tables === 1 ? "table" : "tables"}, ${count(level.used)} of ${count(level.entries)} entries used${level.leaves ? `, ${count(level.leaves)} map memory` : ""}`));
    return el("div", { class: "cards" },
      el("div", { class: "card" }, el("h3", {}, `${space.pid} ${space.command}${space.ended ? ", as it ended" : ""}`), el("p", {}, `${bytes(size)} of addresses, ${bytes(sum("rss"))} present, ${bytes(sum("dirty"))} dirty, ${bytes(sum("copy_on_write"))} copied when written`), el("p", { class: "faint" }, `faults: ${count(space.faults[0])} minor, ${count(space.faults[1])} major`)),
      el("div", { class: "card" }, el("h3", {}, `Page tables (${space.paging})`), ...levels),
      el("div", { class: "card" }, el("h3", {}, "What the machine has cached"), ...tlb(space.tlb)));
  }
}

const label = (area) => area.name.split("/").pop() || area.kind;

function tlb(found) {
  if (found.machine === "host") {
    const text = `${count(found.mappings)} mappings of the host’s process, ${bytes(found.bytes)}, serve as the TLB; the tables map ${bytes(found.tables_bytes)}`;
    return [el("p", {}, text), entries(found.entries)];
  }
  return found.harts.flatMap((hart) => [
    el("p", {}, `hart ${hart.hart}: ${count(hart.size)} entries; ${count(hart.hits)} hits, ${count(hart.misses)} misses, ${count(hart.walk_steps)} entries read in walks`),
    entries(hart.entries),
  ]);
}

const entries = (list) => el("details", {}, el("summary", { class: "bare" }, list.length ? "Show them" : "None of this process"), el("ul", { class: "entries mono" }, ...list.map((each) => el("li", {}, `${hex(each.start)} +${bytes(each.end - each.start)} ${each.rights} → ${hex(each.physical)}`))));
