// One page walk: the address cut into indexes, then each entry that the hardware reads, bit by bit.

import { el } from "./dom.js";
import { bytes, hex } from "./format.js";

export function walkView(walk) {
  const cut = walk.parts.map(([name, value]) => el("span", {}, el("small", {}, name), hex(value)));
  const steps = walk.steps.map((step, i) => el("div", { class: i === walk.steps.length - 1 ? "step last" : "step" },
    el("h3", {}, `${step.table}, entry ${step.slot}`),
    el("p", { class: "mono" }, `${hex(step.entry)} at physical ${hex(step.address)}`),
    el("p", {}, step.summary),
    el("ul", { class: "bits", "aria-label": "Bits of the entry" }, ...step.bits.map(bit))));
  return [
    el("h3", {}, `Walk to ${hex(walk.address)} (${walk.paging})`),
    el("div", { class: "parts" }, ...cut),
    ...steps,
    el("p", {}, el("strong", {}, walk.outcome), walk.mapped ? `, ${walk.rights} for user mode, in a leaf of ${bytes(walk.size)}` : ""),
    el("p", { class: "faint" }, [walk.area, walk.touch].filter(Boolean).join(" — ")),
    ...(walk.sharers ?? []).map(shared),
  ];
}

function bit(each) {
  const place = each.low === each.high ? `${each.low}` : `${each.high}:${each.low}`;
  const on = each.value !== 0 && each.value !== "0x0";
  return el("li", { class: on ? "on" : "" }, el("b", {}, each.name), ` ${place} = ${hex(each.value)}`, el("small", {}, each.meaning));
}

// Who else has the frame: a page cache, other processes, other places of the same one.
function shared(each) {
  const file = each.file ? `It is the page of ${each.file} at ${hex(each.offset)}. ` : "";
  const others = each.sharers.map((sharer) => el("li", {}, `${sharer.pid} ${sharer.command}, at ${hex(sharer.address)} ${sharer.rights} ${sharer.area}`));
  return el("div", {}, el("p", { class: "faint" }, `${file}${others.length ? "The frame is mapped elsewhere too:" : "No other process maps the frame."}`), el("ul", { class: "entries mono" }, ...others));
}
