// The player: crossings of a program that has ended, one after the other, on the line.

import { el, fill, say, still, throttle } from "./dom.js";
import { moment } from "./format.js";
import { loud, store } from "./store.js";

const SPEEDS = [["2", "2 a second"], ["6", "6 a second"], ["20", "20 a second"], ["100", "100 a second"]];

export class Player {
  constructor(node, line, announce) {
    this.node = node;
    this.line = line;
    this.at = 0;
    this.timer = 0;
    this.announce = announce;
    this.toggle = el("button", { type: "button", class: "strong", onclick: () => (this.timer ? this.stop() : this.play()) }, "Replay");
    const back = el("button", { type: "button", "aria-label": "One crossing back", onclick: () => this.move(-1) }, "‹");
    const on = el("button", { type: "button", "aria-label": "One crossing on", onclick: () => this.move(1) }, "›");
    this.slider = el("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Crossing", oninput: () => this.seek(Number(this.slider.value)) });
    this.speed = el("select", { "aria-label": "Speed", onchange: () => this.timer && this.play() }, ...SPEEDS.map(([value, text]) => el("option", { value, selected: value === "6" }, text)));
    this.said = el("output");
    fill(node, this.toggle, back, this.slider, on, this.speed, this.said);
    store.addEventListener("filter", () => this.#crossings && this.#reload());
    store.addEventListener("events", throttle(() => this.#late(), 500));
  }

  #crossings = null;

  #reload() {
    this.#crossings = store.events.filter((each) => loud(each) && store.wanted(each));
    this.slider.max = String(Math.max(0, this.#crossings.length - 1));
    this.at = Math.min(this.at, Math.max(0, this.#crossings.length - 1));
  }

  // The program has ended, or the trace is a saved one: from now on the line belongs to us.
  offer() {
    if (!this.node.hidden) return;
    this.node.hidden = false;
    this.#late();
  }

  // A page that is opened late gets a long history in portions, some after the player is there.
  #late() {
    if (this.node.hidden) return;
    this.#reload();
    if (!this.timer && this.line.live) say(this.said, `${this.#crossings.length} crossings`);
  }

  play() {
    this.stop();
    this.#reload();
    if (!this.#crossings.length) return;
    if (this.at >= this.#crossings.length - 1) this.at = 0;
    if (this.at === 0 || this.line.live) this.line.clear();
    const every = 1000 / Number(this.speed.value);
    this.timer = setInterval(() => this.#next(), every);
    say(this.toggle, "Stop");
    this.#show();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    say(this.toggle, "Replay");
  }

  move(by) {
    this.stop();
    this.seek(this.at + by);
    const event = this.#crossings[this.at];
    if (event) this.announce(`${event.command} ${event.call ?? event.event}`);
  }

  seek(to) {
    if (!this.#crossings) this.#reload();
    if (this.line.live) this.line.clear();
    this.at = Math.max(0, Math.min(this.#crossings.length - 1, to));
    this.#show();
  }

  #next() {
    if (this.at >= this.#crossings.length - 1) this.stop();
    else {
      this.at += 1;
      this.#show();
    }
  }

  #show() {
    const event = this.#crossings[this.at];
    if (!event) return;
    this.slider.value = String(this.at);
    say(this.said, `${this.at + 1} of ${this.#crossings.length} · ${moment(event.time_ns - store.start)}`);
    this.line.show(event);
  }

  // Plays by itself, once, unless the user wants it quiet.
  greet() {
    if (!still() && this.#crossings?.length) this.play();
  }
}
