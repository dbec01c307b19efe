// The ledger: for each call how often, how long, how wrong. Counted by the kernel, so complete, whatever the page missed.

import { el, fill, say, throttle, tone } from "./dom.js";
import { count, duration } from "./format.js";
import { family } from "./families.js";
import { store } from "./store.js";

const COLUMNS = [
  ["call", "Call", (row) => row.name],
  ["count", "Count", (row) => row.count],
  ["errors", "Errors", (row) => row.errors],
  ["ns", "Work", (row) => row.ns],
  ["mean", "Mean", (row) => row.ns / row.count],
  ["min", "Least", (row) => row.min_ns],
  ["max", "Most", (row) => row.max_ns],
  ["wait", "Asleep", (row) => row.wait_ns],
];
const FIRST_BUCKET = 8;

export class Ledger {
  constructor(node, onCall) {
    this.node = node;
    this.onCall = onCall;
    node.classList.add("ledger");
    this.lines = new Map();
    this.key = "ns";
    this.down = true;
    this.split = el("div", { class: "split", role: "img" });
    this.summary = el("dl", { class: "summary" });
    this.heads = COLUMNS.map(([key, title]) => el("th", { scope: "col", class: key === "call" ? "" : "number" }, el("button", { type: "button", onclick: () => this.sort(key) }, title)));
    this.body = el("tbody");
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...this.heads, el("th", { scope: "col" }, "Distribution"))), this.body);
    fill(node, this.split, this.summary, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Ledger" }, table), el("p", { class: "note faint" }, "All times are this kernel’s, which is written in Python, with the watching in them."));
    this.paint = throttle(() => this.#paint(), 400);
    store.addEventListener("state", ({ detail }) => detail.includes("tally") && this.paint());
  }

  sort(key) {
    this.down = this.key === key ? !this.down : key !== "call";
    this.key = key;
    this.#paint();
  }

  #paint() {
    if (this.node.hidden) return;
    const tally = store.state.tally;
    const rows = Object.entries(tally.calls).map(([name, each]) => ({ name, ...each }));
    const value = COLUMNS.find(([key]) => key === this.key)[2];
    const sign = this.down ? -1 : 1;
    rows.sort((a, b) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
    this.heads.forEach((head, i) => head.setAttribute("aria-sort", COLUMNS[i][0] === this.key ? (this.down ? "descending" : "ascending") : "none"));
    const work = rows.reduce((sum, each) => sum + each.ns, 0);
    const wait = rows.reduce((sum, each) => sum + each.wait_ns, 0);
    const most = Math.max(1, ...rows.map((each) => each.ns));
    const repair = Object.values(tally.faults).reduce((sum, [, ns]) => sum + ns, 0);
    this.#split([["user", "in user mode", tally.user_ns], ["kernel", "work for calls", work], ["fault", "for page faults", repair]]);
    this.#summary([
      ["User mode", duration(tally.user_ns)],
      ["Work", `${duration(work)} for ${count(tally.events.call ?? 0)} calls${repair ? `, ${duration(repair)} for faults` : ""}`],
      ["Asleep", duration(wait)],
      ["Page faults", list(tally.faults, ([n, ns]) => `${count(n)}${ns ? `, ${duration(ns)}` : ""}`)],
      ["Signals", list(tally.signals, count)],
      ["Switches", list(tally.switches, count)],
      ["Interrupts", list(tally.interrupts, count)],
    ]);
    const shown = rows.map((row) => this.#row(row, most));
    if (shown.some((row, i) => this.body.children[i] !== row)) fill(this.body, ...shown);
  }

  #summary(rows) {
    fill(this.summary, ...rows.filter(([, text]) => text).map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))));
  }

  #split(parts) {
    const all = parts.reduce((sum, each) => sum + each[2], 0) || 1;
    this.split.setAttribute("aria-label", parts.map(([, text, ns]) => `${duration(ns)} ${text}`).join(", "));
    fill(this.split, ...parts.map(([name, text, ns]) => el("i", { title: `${text}: ${duration(ns)}`, style: { ...tone(name), width: `${(100 * ns) / all}%` } })));
  }

  // The line of one call, made once, so that it keeps the focus; and what is in it now.
  #row(row, most) {
    let line = this.lines.get(row.name);
    if (!line) {
      const numbers = COLUMNS.slice(1).map(() => el("td", { class: "number" }));
      const share = el("span", { class: "share", style: tone(`c-${family(row.name)}`) });
      const name = el("button", { type: "button", class: "bare mono", title: "Show these calls", onclick: () => this.onCall(row.name) }, row.name);
      const last = el("td");
      line = { node: el("tr", {}, el("td", {}, name, share), ...numbers, last), numbers, share, last, known: "" };
      this.lines.set(row.name, line);
    }
    line.share.style.width = `${(100 * row.ns) / most}%`;
    if (line.known === `${row.count} ${row.wait_ns}`) return line.node;
    line.known = `${row.count} ${row.wait_ns}`;
    COLUMNS.slice(1).forEach(([key, , value], i) => say(line.numbers[i], key === "count" || key === "errors" ? count(value(row)) : value(row) ? duration(value(row)) : "–"));
    line.numbers[1].className = row.errors ? "number bad" : "number faint";
    line.numbers[1].title = Object.entries(row.which).map(([name, n]) => `${name} ${n}`).join(", ");
    fill(line.last, bars(row.histogram));
    return line.node;
  }
}

const list = (counts, show) => Object.entries(counts).map(([name, each]) => `${name} ${show(each)}`).join(" · ");

// A histogram: each bar is twice the time of the one before it.
function bars(histogram) {
  const last = histogram.findLastIndex((each) => each > 0);
  const most = Math.max(...histogram);
  const text = histogram.map((n, i) => [n, i]).filter(([n]) => n).map(([n, i]) => `${count(n)} below ${duration(2 ** (i + FIRST_BUCKET + 1))}`).join("; ");
  return el("span", { class: "bars", role: "img", "aria-label": text, title: text }, ...histogram.slice(0, Math.max(18, last + 1)).map((n) => el("i", { class: n ? "some" : "", style: { height: n ? `${15 + (85 * Math.log1p(n)) / Math.log1p(most)}%` : "1px" } })));
}
