// Painting the timeline's rows on a canvas. What is narrower than a pixel is drawn once per pixel, so that a hundred thousand events
// cost what a screen of them costs.

import { duration } from "./format.js";
import { hue } from "./families.js";
import { store } from "./store.js";

export const LABEL = 128; // pixels, as all of these
export const AXIS = 26;
export const CPU = 20;
export const TASK = 34;
const MOST_WAKES = 150;

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
  }

  // `rows` is as `Timeline` makes them, `range` the times at both ends, `picked` the event that is marked.
  paint(rows, height, width, range, picked) {
    [this.from, this.to] = range;
    this.rows = rows;
    this.picked = picked;
    this.scale = width / (this.to - this.from);
    this.width = width;
    const g = this.#prepare(width + LABEL, height);
    this.#axis(g, width + LABEL, height);
    for (const row of rows) this.#row(g, row, width + LABEL);
    this.#wakes(g);
    this.#selection(g, height);
  }

  // As sharp as the screen is, in the colours of the style sheet.
  #prepare(width, height) {
    const ratio = devicePixelRatio || 1;
    const canvas = this.canvas;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    const style = getComputedStyle(document.documentElement);
    const colors = new Map();
    this.color = (name) => {
      if (!colors.has(name)) colors.set(name, style.getPropertyValue(`--${name}`).trim());
      return colors.get(name);
    };
    const g = canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    return g;
  }

  #x(time) {
    return LABEL + (time - this.from) * this.scale;
  }

  #axis(g, width, height) {
    const { from, to } = this;
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
    const { from, to } = this;
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
    const { from, to } = this;
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
    const { from, to } = this;
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
    const { from, to } = this;
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
}

// The index of the first span that may reach `time`.
export function first(spans, time) {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].time_ns + (spans[middle].duration_ns ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
