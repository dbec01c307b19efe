// The timeline: CPUs and tasks as tracks; zoom, pan, hover, select.
//
// A task's track has its stays in user mode above, and its calls below, the time asleep in them paler.

import { el, fill, say, throttle, tone } from "./dom.js";
import { count, duration, faultName, hex, moment, result } from "./format.js";
import { FAMILIES } from "./families.js";
import { AXIS, CPU, first, LABEL, Painter, TASK } from "./painter.js";
import { store } from "./store.js";

const MOST_TASKS = 60;
const FOLLOWED = 2e9; // ns in view, at most, when the view follows the newest events

export class Timeline {
  constructor(node, onPick) {
    this.node = node;
    this.onPick = onPick;
    this.canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": "Timeline. Arrow keys pan, plus and minus zoom, Home shows all, Escape ends a selection." });
    this.painter = new Painter(this.canvas);
    this.hover = el("div", { class: "hover" });
    this.span = el("span");
    this.all = el("button", { type: "button", onclick: () => this.fit() }, "Show all");
    this.follow = el("button", { type: "button", "aria-pressed": "false", title: "Keep the newest events in view", onclick: () => this.#follow() }, "Follow");
    this.zoomIn = el("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.zoom(0.5) }, "+");
    this.zoomOut = el("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.zoom(2) }, "−");
    const entries = [["user", "user mode"], ...FAMILIES.map((each) => [`c-${each}`, each]), ["fault", "page fault"], ["signal", "a signal arrives"]];
    const legend = el("div", { class: "legend" }, ...entries.map(([name, text]) => el("span", {}, el("i", { style: tone(name) }), text)));
    node.classList.add("timeline");
    fill(node, el("div", { class: "bar2" }, this.zoomIn, this.zoomOut, this.all, this.follow, this.span), this.canvas, this.hover, el("div", { class: "bar2" }, legend));
    this.help = "Wheel or + and − zoom, drag or arrows pan, Shift and drag selects a range.";
    say(this.hover, this.help);
    this.view = null; // null: everything
    this.following = 0; // ns: that much before the end is in view; 0: what the user chose
    this.width = 50; // of the part right of the labels
    this.paint = throttle(() => this.#paint(), 50);
    this.soon = throttle(() => this.#paint(), 300);
    this.#listen();
  }

  #listen() {
    const canvas = this.canvas;
    store.addEventListener("events", this.soon);
    store.addEventListener("filter", this.paint);
    new ResizeObserver(() => {
      this.width = Math.max(50, this.canvas.clientWidth - LABEL); // asked once, as asking makes the browser lay out
      this.paint();
    }).observe(this.node);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(event.deltaX / this.width);
      else this.zoom(Math.exp(event.deltaY * 0.0022), this.#timeAt(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#release(event));
    canvas.addEventListener("pointerleave", () => !this.drag && this.#point(null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  get range() {
    if (this.following) return [store.end - this.following, store.end];
    return this.view ?? [store.start, Math.max(store.end, store.start + 1000)];
  }


  #timeAt(x) {
    const [from, to] = this.range;
    return from + ((x - LABEL) / this.width) * (to - from);
  }

  #follow() {
    const [from, to] = this.range;
    this.#free();
    this.following = Math.min(to - from, FOLLOWED);
    this.follow.setAttribute("aria-pressed", "true");
    this.paint();
  }

  // The view is the user's again, where it is.
  #free() {
    if (this.following) this.view = this.range;
    this.following = 0;
    this.follow.setAttribute("aria-pressed", "false");
  }

  fit() {
    this.#free();
    this.view = null;
    store.setFilter({ range: null });
    this.paint();
  }

  zoom(factor, around) {
    this.#free();
    const [from, to] = this.range;
    const middle = around ?? (from + to) / 2;
    const whole = store.end - store.start;
    const size = Math.max(2000, (to - from) * factor);
    if (size >= whole * 1.02) this.view = null;
    else {
      const left = middle - ((middle - from) / (to - from)) * size;
      this.view = [left, left + size];
    }
    this.paint();
  }

  pan(part) {
    this.#free();
    const [from, to] = this.range;
    const by = Math.max(store.start - from, Math.min(store.end - to, part * (to - from)));
    if (this.view) this.view = [from + by, to + by];
    this.paint();
  }

  // Bring an event into view, and mark it.
  show(event) {
    this.#free();
    this.picked = event;
    const [from, to] = this.range;
    if (event.time_ns < from || event.time_ns > to) {
      const half = (to - from) / 2;
      this.view = [event.time_ns - half, event.time_ns + half];
    }
    this.#describe(event);
    this.paint();
  }

  #key(event) {
    const moves = { ArrowLeft: () => this.pan(-0.15), ArrowRight: () => this.pan(0.15), "+": () => this.zoom(0.6), "=": () => this.zoom(0.6), "-": () => this.zoom(1.7), Home: () => this.fit(), Escape: () => store.setFilter({ range: null }) };
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  }

  #press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.#free();
    this.drag = { x: event.offsetX, range: this.range, select: event.shiftKey, moved: false };
  }

  #move(event) {
    const drag = this.drag;
    if (!drag) return this.#point(this.#find(event.offsetX, event.offsetY));
    drag.moved ||= Math.abs(event.offsetX - drag.x) > 3;
    if (!drag.moved) return;
    if (drag.select) {
      const ends = [this.#timeAt(drag.x), this.#timeAt(event.offsetX)].sort((a, b) => a - b);
      store.filter.range = ends;
    } else {
      const by = ((drag.x - event.offsetX) / this.width) * (drag.range[1] - drag.range[0]);
      if (this.view) this.view = [drag.range[0] + by, drag.range[1] + by];
    }
    this.paint();
  }

  #release(event) {
    const drag = this.drag;
    this.drag = null;
    if (drag?.select && drag.moved) {
      store.setFilter({ range: store.filter.range });
      this.#sum();
    } else if (drag && !drag.moved) {
      const found = this.#find(event.offsetX, event.offsetY);
      if (found) {
        this.picked = found;
        this.onPick(found);
      } else if (store.filter.range) store.setFilter({ range: null });
      this.paint();
    }
  }

  #rows() {
    const [from, to] = this.range;
    const inside = (list) => list[first(list, from)]?.time_ns <= to;
    const tasks = [...store.seen.values()].filter((each) => inside(each.track.spans) || inside(each.track.marks) || inside(each.runs.spans));
    const wanted = store.filter.task ? tasks.filter((each) => String(each.tid) === store.filter.task || String(each.pid) === store.filter.task) : tasks;
    const cpus = [...store.cpus.entries()].sort((a, b) => a[0] - b[0]);
    let top = AXIS;
    const rows = cpus.map(([number, track]) => ({ label: `CPU ${number}`, cpu: true, runs: track.spans, spans: [], marks: track.marks, top: (top += CPU) - CPU, height: CPU }));
    top += 6;
    for (const task of wanted.slice(0, MOST_TASKS)) {
      rows.push({ tid: task.tid, label: `${task.command || "?"} ${task.tid}`, runs: task.runs.spans, spans: task.track.spans, marks: task.track.marks, top, height: TASK });
      top += TASK;
    }
    this.left = Math.max(0, wanted.length - MOST_TASKS);
    return [rows, top + 8];
  }

  #paint() {
    if (this.node.hidden) return;
    const [rows, height] = this.#rows();
    const [from, to] = this.range;
    this.rows = rows;
    this.painter.paint(rows, height, this.width, [from, to], this.picked);
    const parts = [`${duration(to - from)} of ${duration(store.end - store.start)}`];
    if (this.left) parts.push(`${this.left} tasks more: choose one`);
    if (store.dropped) parts.push(`${count(store.dropped)} older events forgotten`);
    say(this.span, parts.join(" · "));
  }

  #find(x, y) {
    const row = this.rows?.find((each) => y >= each.top && y < each.top + each.height);
    if (!row || x < LABEL) return null;
    const time = this.#timeAt(x);
    const near = (this.range[1] - this.range[0]) / this.width;
    const mark = row.marks.find((each) => Math.abs(each.time_ns - time) < 4 * near);
    if (mark && (mark.event === "signal" || y > row.top + 27 || (row.cpu && (y < row.top + 4 || y > row.top + CPU - 4)))) return mark;
    const spans = row.cpu || y < row.top + 13 ? row.runs : row.spans;
    for (let i = Math.max(0, first(spans, time) - 1); i < spans.length && spans[i].time_ns <= time + near; i += 1) {
      if (time <= spans[i].time_ns + spans[i].duration_ns + near) return spans[i];
    }
    return null;
  }

  #point(event) {
    if (event) this.#describe(event);
    else if (store.filter.range) this.#sum();
    else if (this.picked) this.#describe(this.picked);
    else say(this.hover, this.help);
  }

  #describe(event) {
    const when = `${moment(event.time_ns - store.start)}   ${event.command} ${event.tid}   CPU ${event.cpu}`;
    let what = event.signal ?? event.event;
    if (event.event === "call") what = `${event.call}(${Object.values(event.shown).join(", ")}) = ${result(event)}   ${duration(event.duration_ns)}${event.wait_ns ? `, of that asleep ${duration(event.wait_ns)}` : ""}`;
    if (event.event === "run") what = `user mode for ${duration(event.duration_ns)}`;
    if (event.event === "fault") what = `${faultName(event)} at ${hex(event.address)}${event.served ? "" : ", not served"}${event.duration_ns ? `   ${duration(event.duration_ns)}` : ""}`;
    if (event.event === "switch") what = `CPU ${event.cpu} changes from ${event.from_command} ${event.from_tid}, which ${event.why === "blocked" ? "waits" : `has ${event.why}`}, to ${event.command} ${event.tid}`;
    if (event.event === "interrupt") what = `interrupt: ${event.kind}`;
    fill(this.hover, el("div", {}, when), el("div", {}, what));
  }

  #sum() {
    const range = store.filter.range;
    if (!range) return;
    const inside = store.events.filter((each) => each.time_ns >= range[0] && each.time_ns <= range[1] && store.wanted(each));
    const calls = inside.filter((each) => each.event === "call");
    const times = new Map();
    for (const each of calls) times.set(each.call, (times.get(each.call) ?? 0) + 1);
    const top = [...times].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([name, n]) => `${name} ${n}`).join(", ");
    const user = inside.reduce((sum, each) => sum + (each.event === "run" ? each.duration_ns : 0), 0);
    fill(this.hover, el("div", {}, `Selected ${duration(range[1] - range[0])}: ${calls.length} calls, ${inside.filter((each) => each.event === "fault").length} faults, ${duration(user)} in user mode`), el("div", {}, top));
  }
}
