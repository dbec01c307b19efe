// The console: what the program writes, and what is typed to it where the page is its terminal.

import { ask } from "./link.js";
import { el, fill, say } from "./dom.js";
import { Screen } from "./screen.js";
import { store } from "./store.js";

export class Console {
  constructor(node, onNews) {
    this.node = node;
    this.onNews = onNews;
    this.pre = el("pre", { class: "screen", tabindex: "0", role: "log", "aria-label": "The program’s output" });
    this.screen = new Screen(this.pre);
    this.input = el("input", { "aria-label": "To the program", placeholder: "type a line to the program", autocomplete: "off", spellcheck: "false" });
    this.said = el("span", { class: "faint", role: "status" });
    this.form = el("form", { class: "type", hidden: true }, this.input, el("button", { type: "submit" }, "Enter"),
      ...[["\x03", "Ctrl-C"], ["\x04", "Ctrl-D"], ["\x1a", "Ctrl-Z"]].map(([key, text]) => el("button", { type: "button", class: "quiet", onclick: () => this.send(key) }, text)), this.said);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(`${this.input.value}\n`);
      this.input.value = "";
    });
    this.elsewhere = el("p", { class: "type faint" }, "The program reads from where trapline explore was started; --console page gives it this page as its terminal.");
    fill(node, this.pre, this.form, this.elsewhere);
    store.addEventListener("state", () => this.#offer());
    new ResizeObserver(() => this.#size()).observe(this.pre);
  }

  write(text, cut) {
    const follow = this.pre.scrollTop + this.pre.clientHeight >= this.pre.scrollHeight - 30;
    if (cut) this.screen.write("\r\n[older output is forgotten]\r\n");
    this.screen.write(text);
    if (follow) this.pre.scrollTop = this.pre.scrollHeight;
    this.onNews();
  }

  #offer() {
    const over = ["ended", "saved", "connecting"].includes(store.state.run.status);
    this.form.hidden = over || !store.state.input;
    this.elsewhere.hidden = over || store.state.input;
  }

  async send(text) {
    try {
      await ask({ do: "input", text });
      say(this.said, "");
    } catch (error) {
      say(this.said, error.message);
    }
  }

  // The program's terminal is as wide as the pane.
  #size() {
    if (!store.state.input || !this.pre.clientWidth) return;
    const probe = el("span", {}, "0".repeat(50));
    this.pre.append(probe);
    const columns = Math.floor((this.pre.clientWidth - 34) / (probe.getBoundingClientRect().width / 50));
    const rows = Math.floor((this.pre.clientHeight - 32) / (probe.getBoundingClientRect().height || 19));
    probe.remove();
    const wanted = `${columns}x${rows}`;
    if (wanted === this.sized || columns < 10 || rows < 4) return;
    this.sized = wanted;
    ask({ do: "resize", columns, rows }).catch(() => {});
  }
}
