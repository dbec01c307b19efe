// Numbers for people.

const digits = (value) => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0));

export function duration(ns) {
  if (ns === null || ns === undefined) return "";
  if (ns < 1000) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${digits(ns / 1e3)} µs`;
  if (ns < 1e9) return `${digits(ns / 1e6)} ms`;
  return `${digits(ns / 1e9)} s`;
}

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    size /= 1024;
    if (size < 1024 || unit === "TiB") return `${size < 10 && size % 1 ? size.toFixed(1) : Math.round(size)} ${unit}`;
  }
}

export const count = (value) => value.toLocaleString("en");

export const short = (value) => (value < 10000 ? String(Math.round(value)) : value < 1e6 ? `${digits(value / 1e3)}k` : `${digits(value / 1e6)}M`);

// Numbers above 2^53 come as hexadecimal text.
export const hex = (value) => (typeof value === "string" ? value : `0x${value.toString(16)}`);

// Since the start of the trace.
export const moment = (ns) => `${(ns / 1e6).toFixed(3)} ms`;

export const result = (event) => {
  if (event.result === null) return "?";
  if (event.error) return `−1 ${event.error}`;
  return event.result > 0xffffff ? hex(event.result) : String(event.result);
};

// Of a page fault: what was tried, and what the kernel had to do.
export const faultName = (event) => `${event.access} fault${event.kind ? `, ${KINDS[event.kind] ?? event.kind}` : ""}${event.kernel ? ", by the kernel" : ""}`;

const KINDS = { major: "read from a file", cow: "copied", zero: "a new page", file: "from the page cache", write: "made writable", spurious: "nothing to do", invalid: "invalid", memory: "out of memory" };
