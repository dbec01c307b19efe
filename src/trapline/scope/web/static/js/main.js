// The page put together.

import { $, el, fill, say, throttle } from "./dom.js";
import { Calls } from "./calls.js";
import { Console } from "./console.js";
import { Coverage } from "./coverage.js";
import { count, duration, short } from "./format.js";
import { Ledger } from "./ledger.js";
import { Line } from "./line.js";
import { ask, listen } from "./link.js";
import { Memory } from "./memory.js";
import { Player } from "./player.js";
import { store } from "./store.js";
import { Tabs } from "./tabs.js";
import { Tasks } from "./tasks.js";
import { Timeline } from "./timeline.js";

history.replaceState(null, "", "/"); // the token does not stay in the address bar

const announce = (text) => say($("announce"), text);
const line = new Line($("line"));
const player = new Player($("player"), line, announce);
new Tasks($("tasks"));
const timeline = new Timeline($("timeline"), (event) => calls.pick(event, false));
const calls = new Calls($("calls"), (event) => timeline.show(event), $("matches"));
const ledger = new Ledger($("ledger"), (name) => {
  store.setFilter({ call: name });
  tabs.open("calls");
});
const memory = new Memory($("memory"));
const coverage = new Coverage($("coverage"));
const terminal = new Console($("console"), () => tabs.current !== "console" && tabs.badge("console", "●"));

const PANES = [["timeline", "Timeline"], ["calls", "Calls"], ["ledger", "Ledger"], ["memory", "Memory"], ["coverage", "System calls"], ["console", "Console"]];
const tabs = new Tabs($("tabs"), PANES, (id) => {
  $("filter").hidden = id !== "timeline" && id !== "calls";
  if (id === "timeline") timeline.paint();
  if (id === "calls") calls.paint();
  if (id === "ledger") ledger.paint();
  if (id === "memory") memory.open();
  if (id === "coverage") coverage.open();
  if (id === "console") queueMicrotask(() => tabs.badge("console", ""));
});

// ---- the filter

const form = $("filter");
form.addEventListener("input", () => {
  const { task, call, text, failed } = form.elements;
  store.setFilter({ task: task.value, call: call.value, text: text.value, failed: failed.checked });
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => store.setFilter({ task: "", call: "", text: "", failed: false, range: null }));
store.addEventListener("filter", () => {
  const { task, call, text, failed } = form.elements;
  if (task.value !== store.filter.task) task.value = store.filter.task;
  if (call.value !== store.filter.call) call.value = store.filter.call;
  if (text.value !== store.filter.text) text.value = store.filter.text;
  failed.checked = store.filter.failed;
});
const options = throttle(() => {
  const select = form.elements.task;
  const names = [...store.seen.values()].slice(-300).map((each) => [String(each.tid), `${each.tid} ${each.command}`]);
  if (select.options.length !== names.length + 1) {
    fill(select, el("option", { value: "" }, "all"), ...names.map(([value, text]) => el("option", { value }, text)));
    select.value = store.filter.task;
  }
}, 700);
store.addEventListener("events", options);
store.addEventListener("state", options);

// ---- the run

const WORDS = { connecting: "connecting", waiting: "waiting", running: "running", paused: "paused", saved: "saved trace" };

function status(run) {
  if (store.state.linked === false) return ["lost", "trapline explore has ended"];
  if (run.status !== "ended") return [run.status, WORDS[run.status] ?? run.status];
  const exit = run.exit ?? {};
  return ["ended", exit.signal ? `ended, killed by signal ${exit.signal}` : exit.timed_out ? "ended, timed out" : `ended, exit ${exit.status}`];
}

let before = "";
function head() {
  const { run, tally, lost } = store.state;
  const [kind, text] = status(run);
  const program = (run.program ?? []).join(" ") || "trapline explore";
  say($("program"), program);
  document.title = `${program} · trapline explore`;
  say($("status"), text);
  $("status").dataset.kind = kind;
  const gone = lost + store.missed;
  say($("why"), [run.why, run.status === "ended" && run.ended_ns ? `ran ${duration(run.ended_ns - run.started_ns)}` : "", gone ? `${count(gone)} events were too fast for this page; the ledger has them all` : ""].filter(Boolean).join(" · "));
  const live = kind === "running" || kind === "paused";
  $("pause").hidden = $("step").hidden = $("stops").hidden = !live;
  say($("pause"), kind === "paused" ? "Continue" : "Pause");
  $("pause").classList.toggle("strong", kind === "paused");
  figures(tally);
  if (before !== kind) {
    announce(text);
    if ((kind === "ended" || kind === "saved") && before !== kind) setTimeout(() => end(kind), 700);
    before = kind;
  }
}

function end(kind) {
  player.offer();
  if (kind === "saved" || store.events.length < 4000) player.greet();
}

let last = { at: 0, total: 0, rate: 0 }; // when and how many there were at the last look
function figures(tally) {
  const total = (tally.events.call ?? 0) + (tally.events.fault ?? 0);
  const now = performance.now();
  const { run } = store.state;
  if (run.ended_ns) last = { at: now, total, rate: (total * 1e9) / (run.ended_ns - run.started_ns) };
  else if (run.status === "saved") {
    const all = Object.values(tally.events).reduce((sum, each) => sum + each, 0); // of which the page has the last ones
    last = { at: now, total, rate: (total * store.events.length * 1e9) / (Math.max(1, all) * Math.max(1, store.end - store.start)) };
  }
  else if (now - last.at > 900) last = { at: now, total, rate: last.at && run.status === "running" ? ((total - last.total) * 1000) / (now - last.at) : 0 };
  const list = [["calls", short(tally.events.call ?? 0)], ["faults", short(tally.events.fault ?? 0)], ["tasks", short(store.seen.size)], ["crossings/s", short(last.rate)]];
  const node = $("figures");
  if (node.childElementCount !== list.length) fill(node, ...list.map(([name]) => el("div", {}, el("dt", {}, name), el("dd", {}))));
  list.forEach(([, value], i) => say(node.children[i].lastChild, value));
}

const paintHead = throttle(head, 200);
store.addEventListener("state", paintHead);
store.addEventListener("events", paintHead);
setInterval(() => store.state.run.status === "running" && paintHead(), 1000);

async function control(question) {
  try {
    await ask(question);
  } catch (error) {
    announce(error.message);
    say($("why"), error.message);
  }
}
$("pause").addEventListener("click", () => control({ do: store.state.run.status === "paused" ? "continue" : "pause" }));
$("step").addEventListener("click", () => control({ do: "step" }));
$("stop-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const names = event.target.elements.calls.value.split(/[\s,]+/).filter(Boolean);
  const exit = event.target.elements.exit.checked;
  try {
    await ask({ do: "stop", calls: names, exit });
    say($("stop-said"), names.length || exit ? "Set." : "It stops nowhere.");
  } catch (error) {
    say($("stop-said"), error.message);
  }
});
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  timeline.paint();
});

listen((text, cut) => terminal.write(text, cut));
