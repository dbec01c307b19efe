// The line itself: a lane for each task, whose token is above the line in user mode and below it in a call.
//
// Crossings come faster than anybody sees. Each lane shows one in BEAT ms, the newest, and says how many there were.

import { el, fill, say, still } from "./dom.js";
import { faultName, hex, result } from "./format.js";
import { hue } from "./families.js";
import { loud, store } from "./store.js";

const BEAT = 420;
const STAY = 230; // of a beat, below the line
const SETTLE = 300; // ms between two looks at who gets a lane
const IDLE = 3000; // ms after which a lane may be another's
const MOST = 60; // lanes that are remembered
const HIT = [{ opacity: 1, transform: "scale(0.5)" }, { opacity: 0, transform: "scale(4.2)" }];
const PLACES = {
  x86_64: ["the program, on this computer’s CPU", "Trapline’s kernel, in Python"],
  riscv64: ["U-mode of an emulated RISC-V hart", "Trapline’s kernel, in Python"],
};

class Lane {
  constructor(tid) {
    this.tid = tid;
    this.name = el("b");
    this.number = el("span");
    this.said = el("div", { class: "said" });
    this.hit = el("div", { class: "mark-hit" });
    this.total = el("div", { class: "tally" });
    this.node = el("div", { class: "lane", data: { at: "user" } }, this.hit, this.total, el("div", { class: "token" }, this.name, this.number), this.said);
    this.crossings = 0;
    this.next = null;
    this.rest = "user"; // where it is between two beats
    this.call = ""; // in which call
    this.news = false; // that is not shown yet
    this.busy = 0; // until when a beat lasts
    this.way = 0; // the timer of its way back
    this.over = false; // its task has ended
    this.used = 0;
  }

  place(at) {
    if (this.node.dataset.at !== at) this.node.dataset.at = at;
  }

  // Between two beats: where it is, and in which call.
  stay() {
    if (!this.news || this.over) return;
    this.news = false;
    this.place(this.rest);
    if (!this.call) return;
    const [name, ...rest] = this.call.split("(");
    this.said.style.setProperty("--tone", `var(--${hue({ event: "call", call: name })})`);
    fill(this.said, el("span", { class: "name" }, name), `(${rest.join("(")} …`);
  }

  // A crossing that nobody sees.
  pass(event) {
    this.over = event.event === "exit";
    if (!this.over) return;
    this.place("ended");
    fill(this.said, ...describe(event));
  }

  // One crossing: down with what is asked, and up with what came of it.
  beat(event, now) {
    this.busy = now + BEAT;
    const tone = `var(--${hue(event)})`;
    this.hit.style.setProperty("--tone", tone);
    this.said.style.setProperty("--tone", tone);
    if (!still()) this.hit.animate(HIT, { duration: 480, easing: "ease-out" });
    clearTimeout(this.way);
    this.over = event.event === "exit";
    this.place(this.over ? "ended" : "kernel");
    fill(this.said, ...describe(event));
    if (!this.over) this.way = setTimeout(() => this.place(this.rest), still() ? 0 : STAY);
  }
}

// What an event says below its token.
export function describe(event) {
  if (event.event === "call") {
    const shown = Object.values(event.shown).join(", ");
    const text = shown.length > 90 ? `${shown.slice(0, 90)}…` : shown;
    return [el("span", { class: "name" }, event.call), `(${text}) `, el("span", { class: event.error ? "failed" : "back" }, `= ${result(event)}`)];
  }
  if (event.event === "fault") return [el("span", { class: "name" }, faultName(event)), ` at ${hex(event.address)}`, event.served ? "" : el("span", { class: "failed" }, " not served")];
  if (event.event === "exit") return [event.signal ? `killed by ${event.signal}` : `exit ${event.status}`];
  return [el("span", { class: "name" }, event.signal ?? event.event)];
}

export class Line {
  constructor(node) {
    this.node = node;
    this.lanes = new Map();
    this.live = true;
    this.due = false; // there is a new lane
    this.settled = 0;
    this.room = 2; // how many lanes may be seen
    this.row = el("div", { class: "lanes" });
    this.empty = el("p", { class: "empty" }, "Nobody is here yet.");
    this.more = el("p", { class: "more" });
    this.above = el("small");
    this.below = el("small");
    fill(node, el("div", { class: "rule" }), el("p", { class: "space above" }, "User space", this.above), el("p", { class: "space below" }, "Kernel space", this.below), this.row, this.empty, this.more);
    new ResizeObserver(([{ contentRect }]) => {
      this.room = Math.max(2, Math.min(9, Math.floor(contentRect.width / 150)));
      this.due = true;
    }).observe(node);
    store.addEventListener("state", () => this.live && this.rest());
    store.addEventListener("events", ({ detail }) => this.live && detail.forEach((each) => this.queue(each)));
    setInterval(() => this.tick(), 60);
  }

  lane(tid) {
    let lane = this.lanes.get(tid);
    if (!lane) {
      lane = new Lane(tid);
      lane.node.hidden = true;
      say(lane.number, String(tid));
      this.lanes.set(tid, lane);
      this.row.append(lane.node);
      this.due = true;
    }
    lane.used = performance.now();
    return lane;
  }

  // Whoever has a lane keeps it while it does something; free lanes go to those that did something last.
  settle() {
    const now = performance.now();
    const claim = (lane) => (lane.over ? 0 : lane.node.hidden || now - lane.used > IDLE ? 1 : 2);
    const lanes = [...this.lanes.values()].sort((a, b) => claim(b) - claim(a) || b.used - a.used);
    for (const each of lanes.splice(MOST)) {
      each.node.remove();
      this.lanes.delete(each.tid);
    }
    lanes.forEach((each, i) => {
      if (each.node.hidden !== i >= this.room) each.node.hidden = i >= this.room;
    });
    this.empty.hidden = lanes.length > 0;
    say(this.more, lanes.length > this.room ? `${lanes.length - this.room} more` : "");
  }

  // Where tasks are between crossings, as the kernel says.
  rest() {
    const places = PLACES[store.state.run.arch] ?? ["", ""];
    say(this.above, places[0]);
    say(this.below, places[1]);
    for (const task of store.state.tasks.list) {
      const lane = this.lanes.get(task.tid) ?? this.lane(task.tid);
      say(lane.name, task.command || "?");
      lane.rest = where(task);
      lane.call = task.call;
      lane.news = true;
    }
  }

  queue(event) {
    if (!loud(event)) return;
    if (event.event === "start") {
      const lane = this.lane(event.tid);
      lane.over = false;
      lane.rest = "user";
      lane.place("user");
      return;
    }
    const lane = this.lane(event.tid);
    lane.crossings += 1;
    if (lane.next?.event !== "exit") lane.next = event;
  }

  tick() {
    const now = performance.now();
    if (this.due || now - this.settled > SETTLE) {
      this.due = false;
      this.settled = now;
      this.settle();
    }
    for (const lane of this.lanes.values()) {
      if (now < lane.busy) continue;
      if (!lane.next) {
        lane.stay();
        continue;
      }
      say(lane.name, store.task(lane.tid)?.command || "?");
      say(lane.total, `×${lane.crossings}`);
      if (lane.node.hidden) lane.pass(lane.next);
      else lane.beat(lane.next, now);
      lane.next = null;
    }
  }

  // For a replay: nobody is here, and nothing happens but what `show` is told.
  clear() {
    this.live = false;
    for (const lane of this.lanes.values()) lane.node.remove();
    this.lanes.clear();
    this.due = true;
  }

  show(event) {
    this.queue(event);
    const lane = this.lanes.get(event.tid);
    if (lane) lane.busy = 0;
    this.due = true;
    this.tick();
  }
}

export function where(task) {
  if (task.state === "ended" || task.state === "stopped") return task.state === "ended" ? "ended" : "asleep";
  if (task.state === "asleep") return "asleep";
  if (task.call) return "kernel";
  return task.state === "user" ? "user" : "ready";
}
