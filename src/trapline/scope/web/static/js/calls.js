// Calls, faults and signals as lines, the newest ones that the filter lets through, and one of them in full.

import { el, fill, say, throttle, tone } from "./dom.js";
import { count, duration, faultName, hex, moment, result } from "./format.js";
import { hue } from "./families.js";
import { loud, store } from "./store.js";

const MOST = 200;

export class Calls {
  constructor(node, onPick, matches) {
    this.node = node;
    this.onPick = onPick;
    this.matches = matches;
    node.classList.add("calls");
    this.body = el("tbody");
    this.told = false; // the list changes because the user wants it
    this.detail = el("div", { class: "detail", hidden: true });
    const heads = [["Time"], ["Task"], ["What it asked, and what came of it"], ["Took", "number"]];
    this.table = el("table", {}, el("thead", {}, el("tr", {}, ...heads.map(([text, kind]) => el("th", { class: kind, scope: "col" }, text)))), this.body);
    this.box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Calls" }, this.table);
    this.follow = true; // the newest line is in view
    this.box.addEventListener("scroll", () => (this.follow = this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - 60));
    this.none = el("p", { class: "note" });
    fill(node, this.box, this.none, this.detail);
    this.newest = []; // what passes the filter, at most MOST
    this.total = 0;
    this.rows = new Map(); // event -> its line
    this.paint = throttle(() => this.#paint(), 300);
    store.addEventListener("events", ({ detail }) => this.#take(detail));
    store.addEventListener("state", this.paint);
    store.addEventListener("filter", () => {
      this.told = true;
      this.total = 0;
      this.newest = [];
      this.#take(store.events);
    });
  }

  #take(events) {
    const { range } = store.filter;
    const found = events.filter((each) => loud(each) && store.wanted(each) && (!range || (each.time_ns >= range[0] && each.time_ns <= range[1])));
    this.total += found.length;
    this.newest = [...this.newest, ...found.slice(-MOST)].slice(-MOST);
    this.paint();
  }

  #paint() {
    if (this.node.hidden && document.getElementById("timeline").hidden) return;
    say(this.matches, this.total > MOST ? `${count(this.total)} lines, the last ${MOST} are listed` : `${count(this.total)} lines`);
    if (this.node.hidden || (this.body.contains(document.activeElement) && !this.told)) return; // somebody reads
    this.told = false;
    const before = this.rows;
    this.rows = new Map(this.newest.map((each) => [each, before.get(each) ?? this.#line(each)]));
    for (const [event, row] of before) if (!this.rows.has(event)) row.remove();
    const fresh = this.newest.filter((each) => !before.has(each));
    if (fresh.length && this.newest.indexOf(fresh[0]) !== this.newest.length - fresh.length) fill(this.body, ...this.rows.values());
    else this.body.append(...fresh.map((each) => this.rows.get(each)));
    this.none.hidden = this.newest.length > 0;
    say(this.none, store.events.length ? "No line passes the filter." : "Nothing has crossed the line yet.");
    if (this.follow && ["running", "paused"].includes(store.state.run.status)) this.box.scrollTop = this.box.scrollHeight;
  }

  #line(event) {
    const row = el("tr", { class: "pick", tabindex: "0", "aria-selected": String(event === this.picked), onclick: () => this.pick(event), onkeydown: (key) => key.key === "Enter" && this.pick(event) },
      el("td", { class: "number faint" }, moment(event.time_ns - store.start)),
      el("td", {}, event.command, el("span", { class: "faint" }, ` ${event.tid}`)),
      el("td", { class: "what", style: tone(hue(event)) }, ...what(event)),
      el("td", { class: "number" }, event.duration_ns === undefined ? "" : duration(event.duration_ns)));
    return row;
  }

  // Show one event in full.
  pick(event, tell = true) {
    this.picked = event;
    for (const [each, row] of this.rows) row.setAttribute("aria-selected", String(each === event));
    const rows = [["when", moment(event.time_ns - store.start)], ["task", `${event.command} ${event.tid}, process ${event.pid}, CPU ${event.cpu}`]];
    if (event.event === "call") {
      for (const [name, text] of Object.entries(event.shown)) rows.push([name, text]);
      rows.push(["result", result(event)], ["took", duration(event.duration_ns)]);
      if (event.wait_ns) rows.push(["asleep", duration(event.wait_ns)]);
      if (event.injected) rows.push(["injected", event.injected]);
    } else {
      for (const [name, value] of Object.entries(event)) {
        if (!["event", "time_ns", "pid", "tid", "command", "cpu"].includes(name)) rows.push([name, name === "address" ? hex(value) : String(value)]);
      }
    }
    this.detail.hidden = false;
    fill(this.detail, el("h3", {}, event.call ?? event.event), el("dl", {}, ...rows.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])));
    this.paint();
    if (tell) this.onPick(event);
  }
}

// An event on one line.
function what(event) {
  if (event.event === "call") {
    const failed = Boolean(event.error);
    return [el("span", { class: "name" }, event.call), `(${Object.values(event.shown).join(", ")}) `, el("span", { class: failed ? "bad" : "faint" }, `= ${result(event)}`), event.injected ? el("span", { class: "bad" }, ` ${event.injected}`) : null];
  }
  const name = el("span", { class: "name" }, { fault: faultName(event), signal: event.signal, stop: `stopped by ${event.signal}`, start: "starts", exit: "ends" }[event.event] ?? event.event);
  if (event.event === "fault") return [name, ` at ${hex(event.address)}${event.pages ? `, ${event.pages} page${event.pages > 1 ? "s" : ""}` : ""}`, event.served ? null : el("span", { class: "bad" }, " not served")];
  if (event.event === "exit") return [name, event.signal ? ` killed by ${event.signal}` : ` with status ${event.status}`];
  return [name, event.shown && typeof event.shown === "string" ? ` ${event.shown}` : ""];
}
