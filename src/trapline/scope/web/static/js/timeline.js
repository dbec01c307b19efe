// The timeline: CPUs and tasks as tracks, drawn on a canvas; zoom, pan, hover, select.
//
// A task's track has its stays in user mode above, and its calls below, the time asleep in them paler. What is narrower than a
// pixel is drawn once per pixel, so that a hundred thousand events cost what a screen of them costs.

import { el, fill, say, throttle, tone } from "./dom.js";
import { count, duration, faultName, hex, moment, result } from "./format.js";
import { FAMILIES, hue } from "./families.js";
import { store } from "./store.js";

const LABEL = 128;
const AXIS = 26;
const CPU = 20;
const TASK = 34;
const MOST_TASKS = 60;
const MOST_WAKES = 150;
const FOLLOWED = 2e9; // ns in view, at most, when the view follows the newest events

export class Timeline {
  constructor(node, onPick) {
    this.node = node;
    this.onPick = onPick;
    this.canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": "Timeline. Arrow keys pan, plus and minus zoom, Home shows all, Escape ends a selection." });
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
    const ratio = devicePixelRatio || 1;
    const width = this.width + LABEL;
    const [from, to] = this.range;
    this.from = from;
    this.scale = this.width / (to - from);
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
    }
    const g = this.canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const style = getComputedStyle(document.documentElement);
    const colors = new Map();
    this.color = (name) => {
      if (!colors.has(name)) colors.set(name, style.getPropertyValue(`--${name}`).trim());
      return colors.get(name);
    };
    this.#axis(g, width, height);
    this.rows = rows;
    for (const row of rows) this.#row(g, row, width);
    this.#wakes(g);
    this.#selection(g, height);
    say(this.span, `${duration(to - from)} of ${duration(store.end - store.start)}${this.left ? ` · ${this.left} tasks more: choose one` : ""}${store.dropped ? ` · ${count(store.dropped)} older events forgotten` : ""}`);
  }

  #x(time) {
    return LABEL + (time - this.from) * this.scale;
  }

  #axis(g, width, height) {
    const [from, to] = this.range;
    const rough = (to - from) / Math.max(2, this.width / 130);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
    g.font = `11px ${getComputedStyle(this.canvas).fontFamily}`;
    g.textBaseline = "middle";
    for (let at = Math.ceil((from - store.start) / step) * step; at <= to - store.start; at += step) {
      const x = this.#x(at + store.start);
      g.fillStyle = this.color("edge");
      g.fillRect(x, AXIS - 6, 1, height);
      g.fillStyle = this.color("faint");
      if (x < width - 30) g.fillText(duration(Math.max(0, at)), x + 5, AXIS / 2);
    }
  }

  #row(g, row, width) {
    g.fillStyle = this.color(row.cpu ? "faint" : "soft");
    g.save();
    g.beginPath();
    g.rect(0, row.top, LABEL - 8, row.height);
    g.clip();
    g.fillText(row.label, 16, row.top + row.height / 2);
    g.restore();
    g.save();
    g.beginPath();
    g.rect(LABEL, row.top, width - LABEL, row.height);
    g.clip();
    if (row.cpu) {
      this.#spans(g, row.runs, row.top + 3, CPU - 6, () => "user");
      this.#ticks(g, row);
    } else {
      this.#spans(g, row.runs, row.top + 4, 8, () => "user");
      this.#spans(g, row.spans, row.top + 14, 14, hue);
      this.#marks(g, row);
    }
    g.restore();
  }

  #spans(g, spans, top, height, colorOf) {
    const [from, to] = this.range;
    const wanted = store.wanted;
    const narrowed = store.narrowed;
    let next = 0; // what ends before is less than a pixel away from what is drawn
    for (let i = first(spans, from); i < spans.length && spans[i].time_ns <= to; i += 1) {
      const each = spans[i];
      if (each.time_ns + each.duration_ns < next) continue;
      const x = this.#x(each.time_ns);
      const end = this.#x(each.time_ns + each.duration_ns);
      const size = Math.max(1, end - x);
      g.globalAlpha = narrowed && !wanted(each) ? 0.13 : 1;
      g.fillStyle = this.color(colorOf(each));
      if (each.wait_ns) {
        const work = Math.max(1, size * (1 - each.wait_ns / each.duration_ns));
        g.fillRect(x, top, work, height);
        g.globalAlpha *= 0.32;
        g.fillRect(x + work, top, size - work, height);
      } else g.fillRect(x, top, size, height);
      if (each === this.picked) this.#frame(g, x, top, size, height);
      next = this.from + (end - LABEL + 0.7) / this.scale;
      if (each.call && size > 46 && g.globalAlpha === 1) {
        g.fillStyle = this.color("ground");
        g.fillText(each.call, Math.max(x, LABEL) + 4, top + height / 2 + 0.5, size - 6);
      }
    }
    g.globalAlpha = 1;
  }

  // Switches, as notches between stays, and interrupts below them, where there is room for both.
  #ticks(g, row) {
    const [from, to] = this.range;
    let last = -9;
    for (let i = first(row.marks, from); i < row.marks.length && row.marks[i].time_ns <= to; i += 1) {
      const x = this.#x(row.marks[i].time_ns);
      if (x - last < 3) continue;
      last = x;
      const forced = row.marks[i].event === "interrupt";
      g.fillStyle = this.color(forced ? "fault" : "line-ink");
      g.fillRect(x, row.top + (forced ? CPU - 4 : 0), 1.5, 4);
    }
  }

  // From whoever ended a wait to the one who waited, where there are few enough to tell apart.
  #wakes(g) {
    const [from, to] = this.range;
    const wakes = store.wakes.filter((each) => each.by && each.time_ns >= from && each.time_ns <= to);
    if (!wakes.length || wakes.length > MOST_WAKES) return;
    const rows = new Map(this.rows.filter((each) => each.tid).map((each) => [each.tid, each]));
    g.strokeStyle = this.color("soft");
    g.globalAlpha = 0.7;
    g.lineWidth = 1;
    for (const wake of wakes) {
      const [waker, woken] = [rows.get(wake.by), rows.get(wake.tid)];
      if (!waker || !woken || waker === woken) continue;
      const x = this.#x(wake.time_ns);
      const [start, end] = waker.top < woken.top ? [waker.top + 28, woken.top + 13] : [waker.top + 14, woken.top + 29];
      g.beginPath();
      g.moveTo(x, start);
      g.quadraticCurveTo(x + 7, (start + end) / 2, x, end);
      g.stroke();
    }
    g.globalAlpha = 1;
  }

  #frame(g, x, top, size, height) {
    g.globalAlpha = 1;
    g.strokeStyle = this.color("line-ink");
    g.lineWidth = 2;
    g.strokeRect(x - 1, top - 1, size + 2, height + 2);
  }

  #marks(g, row) {
    const [from, to] = this.range;
    let last = -9;
    for (let i = first(row.marks, from); i < row.marks.length && row.marks[i].time_ns <= to; i += 1) {
      const each = row.marks[i];
      const x = this.#x(each.time_ns);
      const signal = each.event === "signal" || each.event === "stop";
      if (x - last < 1 && !signal) continue;
      last = x;
      g.globalAlpha = store.narrowed && !store.wanted(each) ? 0.13 : 1;
      g.fillStyle = this.color(hue(each));
      g.beginPath();
      const y = row.top + (signal ? 14 : 31);
      if (signal) g.arc(x, y, 5, 0, 7);
      else g.rect(x, y - 1, 1.5, 4);
      g.fill();
    }
    g.globalAlpha = 1;
  }

  #selection(g, height) {
    const range = store.filter.range;
    if (!range) return;
    const [x, end] = range.map((each) => this.#x(each));
    g.fillStyle = this.color("focus");
    g.globalAlpha = 0.14;
    g.fillRect(Math.max(LABEL, x), AXIS, end - Math.max(LABEL, x), height);
    g.globalAlpha = 1;
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

// The index of the first span that may reach `time`.
function first(spans, time) {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].time_ns + (spans[middle].duration_ns ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
