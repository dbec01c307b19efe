// As much of a terminal as plain programs use: lines, carriage return, backspace, tabs, colours, clearing. Everything else that
// an escape sequence may ask for is dropped.

import { el } from "./dom.js";

const MOST_LINES = 3000;
const PARTS = /\x1b\[([0-9;:?<=>]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f\x1b]+/g;
const UNFINISHED = /\x1b(?:\[[0-9;:?<=>]*[ -/]*|[\]PX^_][^\x07\x1b]{0,4000}\x1b?)?$/;

export class Screen {
  constructor(node) {
    this.node = node;
    this.style = "";
    this.rest = "";
    this.clear();
  }

  clear() {
    this.node.replaceChildren();
    this.#line();
  }

  #line() {
    this.cells = []; // [character, style] of the line that is written to
    this.column = 0;
    this.row = el("div");
    this.node.append(this.row);
    while (this.node.childElementCount > MOST_LINES) this.node.firstChild.remove();
  }

  write(text) {
    text = this.rest + text;
    const tail = UNFINISHED.exec(text);
    this.rest = tail ? tail[0] : "";
    if (tail) text = text.slice(0, tail.index);
    for (const part of text.matchAll(PARTS)) {
      if (part[2]) this.#control(part[2], part[1]);
      else if (part[0] === "\n") {
        this.#draw();
        this.#line();
      } else if (part[0] === "\r") this.column = 0;
      else if (part[0] === "\b") this.column = Math.max(0, this.column - 1);
      else if (part[0] === "\t") this.#put(" ".repeat(8 - (this.column % 8)));
      else if (part[0] >= " " && part[0] !== "\x7f") this.#put(part[0]);
    }
    this.#draw();
  }

  #put(text) {
    for (const each of text) {
      while (this.cells.length < this.column) this.cells.push([" ", ""]);
      this.cells[this.column] = [each, this.style];
      this.column += 1;
    }
  }

  #control(letter, text) {
    if (letter === "m") this.#colour(text);
    else if (letter === "K") this.cells.length = Math.min(this.cells.length, text === "2" ? 0 : this.column);
    else if (letter === "J" && (text === "2" || text === "3")) this.clear();
    else if (letter === "C") this.column += Math.min(500, Number(text) || 1);
    else if (letter === "D") this.column = Math.max(0, this.column - (Number(text) || 1));
    else if (letter === "G") this.column = Math.max(0, Math.min(1000, (Number(text) || 1) - 1));
    else if (letter === "H") this.column = 0;
  }

  #colour(text) {
    const set = new Set(this.style.split(" ").filter(Boolean));
    const drop = (pattern) => [...set].filter((each) => pattern.test(each)).forEach((each) => set.delete(each));
    for (const code of text.split(";").map(Number)) {
      if (code === 0) set.clear();
      else if (code === 1) set.add("b");
      else if (code === 3) set.add("i");
      else if (code === 4) set.add("u");
      else if (code === 7) set.add("v");
      else if (code === 22) set.delete("b");
      else if (code === 39) drop(/^f/);
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
        drop(/^f/);
        set.add(`f${code % 10}`);
      } else if (code === 38 || code === 48) break;
    }
    this.style = [...set].join(" ");
  }

  #draw() {
    const parts = [];
    let at = 0;
    while (at < this.cells.length) {
      const style = this.cells[at][1];
      let end = at;
      while (end < this.cells.length && this.cells[end][1] === style) end += 1;
      const text = this.cells.slice(at, end).map((each) => each[0]).join("");
      parts.push(style ? el("span", { class: style }, text) : text);
      at = end;
    }
    this.row.replaceChildren(...(parts.length ? parts : ["\u200b"]));
  }
}
