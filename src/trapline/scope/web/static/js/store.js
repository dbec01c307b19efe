// What the page knows: the state of the run, the newest events, and who they are about.
//
// Times are JavaScript numbers of ns since 1970, exact to 256 ns; durations are exact. Listeners hear "state" (with the changed
// names), "events" (with the new ones) and "filter".

import { family } from "./families.js";

const MOST = 100_000;
const DROP = 20_000;

// Events of CPUs: too many and too small for a list of calls.
const QUIET = new Set(["run", "switch", "wake", "interrupt"]);
export const loud = (event) => !QUIET.has(event.event);

class Track {
  spans = []; // calls or runs, which do not overlap
  marks = []; // faults and signals; of a CPU: switches and interrupts

  trim(before) {
    this.spans = this.spans.filter((each) => each.time_ns >= before);
    this.marks = this.marks.filter((each) => each.time_ns >= before);
  }
}

class Store extends EventTarget {
  state = { run: { status: "connecting", program: [] }, tasks: { list: [], more: 0 }, tally: { calls: {}, events: {}, faults: {}, signals: {}, switches: {}, interrupts: {}, user_ns: 0 }, kept: [], lost: 0, input: false };
  events = [];
  dropped = 0; // events that came and are forgotten
  missed = 0; // events that the server did not send
  seen = new Map(); // tid -> {tid, pid, ppid, command, ended, track, runs}
  cpus = new Map(); // number -> Track
  wakes = []; // whose wait is over, and thanks to whom
  start = 0;
  end = 0;
  filter = { task: "", call: "", text: "", failed: false, range: null };

  patch(changed) {
    Object.assign(this.state, changed);
    for (const each of changed.tasks?.list ?? []) {
      const task = this.#task(each.tid, each.pid, each.command);
      task.ppid = each.ppid;
    }
    this.#tell("state", Object.keys(changed));
  }

  add(events, missed) {
    this.missed += missed;
    for (const each of events) this.#take(each);
    if (this.events.length > MOST) this.#forget();
    this.#tell("events", events);
  }

  setFilter(changed) {
    Object.assign(this.filter, changed);
    this.#test = null;
    this.#tell("filter", changed);
  }

  // A function that says whether an event is wanted.
  #test = null;
  get wanted() {
    return (this.#test ??= matcher(this.filter));
  }

  get narrowed() {
    const { task, call, text, failed } = this.filter;
    return Boolean(task || call.trim() || text || failed);
  }

  task(tid) {
    return this.seen.get(tid);
  }

  #task(tid, pid, command) {
    let task = this.seen.get(tid);
    if (!task) this.seen.set(tid, (task = { tid, pid, ppid: 0, command, ended: "", track: new Track(), runs: new Track() }));
    if (command) task.command = command;
    return task;
  }

  #take(event) {
    this.start ||= event.time_ns;
    this.start = Math.min(this.start, event.time_ns);
    const end = event.time_ns + (event.duration_ns ?? 0);
    this.end = Math.max(this.end, end);
    this.events.push(event);
    if (event.event === "switch" || event.event === "interrupt") this.#cpu(event.cpu).marks.push(event);
    if (event.tid === 0) return; // an interrupt of the kernel's own
    const task = this.#task(event.tid, event.pid, event.command);
    if (event.event === "call") {
      task.track.spans.push(event);
      if (/^(clone3?|v?fork)$/.test(event.call) && event.result > 0) {
        const child = this.#task(event.result, event.result, event.command);
        child.ppid ||= event.pid;
      }
    } else if (event.event === "run") {
      task.runs.spans.push(event);
      this.#cpu(event.cpu).spans.push(event);
    } else if (event.event === "switch" || event.event === "interrupt") {
      return;
    } else if (event.event === "wake") {
      this.wakes.push(event);
    } else if (event.event === "exit") {
      task.ended = event.signal ? `killed by ${event.signal}` : `exit ${event.status}`;
      task.track.marks.push(event);
    } else {
      if (event.event === "start") task.ended = "";
      task.track.marks.push(event);
    }
  }

  #cpu(number) {
    if (!this.cpus.has(number)) this.cpus.set(number, new Track());
    return this.cpus.get(number);
  }

  #forget() {
    this.events.splice(0, DROP);
    this.dropped += DROP;
    const before = this.events[0].time_ns;
    for (const task of this.seen.values()) {
      task.track.trim(before);
      task.runs.trim(before);
    }
    for (const track of this.cpus.values()) track.trim(before);
    this.wakes = this.wakes.filter((each) => each.time_ns >= before);
    this.start = before;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function matcher({ task, call, text, failed }) {
  const names = call.trim().split(/[\s,]+/).filter(Boolean);
  const families = new Set(names.filter((each) => each.startsWith("%")).map((each) => each.slice(1)));
  const plain = names.filter((each) => !each.startsWith("%"));
  const tid = Number(task);
  const needle = text.toLowerCase();
  return (event) => {
    if (task && event.tid !== tid && event.pid !== tid) return false;
    if (failed && !(event.event === "call" ? event.error : event.event === "fault" && !event.served && !event.kernel)) return false;
    if (names.length && (event.event !== "call" || !(families.has(family(event.call)) || plain.some((each) => event.call.includes(each))))) return false;
    return !needle || words(event).includes(needle);
  };
}

// Everything of an event that one may look for, put together once.
const known = new WeakMap();
function words(event) {
  let text = known.get(event);
  if (text === undefined) known.set(event, (text = together(event)));
  return text;
}

function together(event) {
  const parts = [event.command, event.call ?? event.event, event.error ?? "", event.signal ?? "", event.access ?? "", event.kind ?? "", ...Object.values(event.shown && typeof event.shown === "object" ? event.shown : {})];
  return parts.join(" ").toLowerCase();
}

export const store = new Store();
