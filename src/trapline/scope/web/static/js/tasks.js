// The tree of tasks: who made whom, where each is, and a signal to one.

import { ask } from "./link.js";
import { el, fill, say, throttle } from "./dom.js";
import { where } from "./line.js";
import { store } from "./store.js";

const SIGNALS = [["2", "SIGINT"], ["15", "SIGTERM"], ["9", "SIGKILL"], ["1", "SIGHUP"], ["10", "SIGUSR1"], ["12", "SIGUSR2"], ["19", "SIGSTOP"], ["18", "SIGCONT"], ["11", "SIGSEGV"]];
const MOST = 300;

export class Tasks {
  constructor(node) {
    this.list = el("ul", { class: "tree" });
    this.which = el("select", { "aria-label": "Signal" }, ...SIGNALS.map(([value, text]) => el("option", { value }, text)));
    this.button = el("button", { type: "button", onclick: () => this.send() }, "Send");
    this.said = el("p", { role: "status" });
    this.form = el("div", { class: "send", hidden: true }, this.said, el("div", { class: "row" }, this.which, this.button));
    this.hide = el("input", { type: "checkbox", onchange: () => this.paint() });
    this.gone = el("label", { class: "tick gone", hidden: true }, this.hide, "hide those that ended");
    fill(node, this.gone, this.list, this.form);
    this.nodes = new Map();
    this.paint = throttle(() => this.#paint(), 200);
    for (const name of ["state", "events", "filter"]) store.addEventListener(name, this.paint);
  }

  #paint() {
    const now = new Map(store.state.tasks.list.map((each) => [each.tid, each]));
    const tasks = [...store.seen.values()].slice(-MOST);
    const kept = new Set(tasks.map((each) => each.tid));
    for (const [tid, { item }] of this.nodes) {
      if (!kept.has(tid)) {
        item.remove();
        this.nodes.delete(tid);
      }
    }
    for (const task of tasks) {
      const row = this.#row(task);
      const live = now.get(task.tid);
      row.dot.dataset.at = live ? where(live) : task.ended || this.#over ? "ended" : "user";
      say(row.name, task.command || "?");
      say(row.doing, live?.call ? `${live.call} …` : task.ended);
      row.doing.hidden = !row.doing.textContent;
      row.button.setAttribute("aria-pressed", String(store.filter.task === String(task.tid)));
      const parent = task.tid !== task.pid ? this.nodes.get(task.pid) : this.nodes.get(task.ppid);
      const place = parent && parent !== row ? parent.children : this.list;
      if (row.item.parentNode !== place) place.append(row.item);
    }
    this.gone.hidden = this.#over || tasks.length < 8;
    const hidden = this.hide.checked && !this.gone.hidden;
    for (const row of this.nodes.values()) row.item.hidden = hidden && !row.item.querySelector('.dot:not([data-at="ended"])');
    const chosen = now.get(Number(store.filter.task));
    this.form.hidden = !chosen || this.#over;
    if (chosen && this.said.dataset.tid !== String(chosen.tid)) {
      this.said.dataset.tid = String(chosen.tid);
      say(this.said, `A signal to ${chosen.tid} (${chosen.command})`);
    }
  }

  get #over() {
    return ["ended", "saved"].includes(store.state.run.status);
  }

  #row(task) {
    let row = this.nodes.get(task.tid);
    if (!row) {
      const dot = el("span", { class: "dot", "aria-hidden": "true" });
      const name = el("span", { class: "name" });
      const doing = el("span", { class: "doing" });
      const button = el("button", { type: "button", class: "task", "aria-pressed": "false", title: "Show only this task", onclick: () => this.choose(task.tid) }, dot, name, el("span", { class: "number" }, task.tid), doing);
      const children = el("ul", { class: "tree" });
      row = { dot, name, doing, button, children, item: el("li", {}, button, children) };
      this.nodes.set(task.tid, row);
    }
    return row;
  }

  choose(tid) {
    store.setFilter({ task: store.filter.task === String(tid) ? "" : String(tid) });
  }

  async send() {
    const tid = Number(store.filter.task);
    try {
      await ask({ do: "signal", tid, signal: Number(this.which.value) });
      say(this.said, `Sent to ${tid}.`);
    } catch (error) {
      say(this.said, error.message);
    }
  }
}
