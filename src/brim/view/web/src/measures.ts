// Sizes of what is drawn, in units of the picture (pixels at zoom 1), and how texts become short.

import type { Block, Item, Leaf, Tree } from "./tree";
import { leavesOf } from "./tree";

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
export const TITLE = 13;
export const SMALL = 10.5;
export const ROW = 26; // a box with a title only
export const ROWS = 40; // ... and with a second line
export const HEAD = 28; // of an open block
export const PAD = 14; // around what an open block holds
export const LABEL = 132; // types on edges are cut here
const WIDEST = 190;

const pen = document.createElement("canvas").getContext("2d")!;
const widths = new Map<string, number>();

/** The width of a text in a size of FONT; texts that come again are measured once. */
export function textWidth(text: string, size: number, weight = 400): number {
  const key = `${weight} ${text}`;
  let width = widths.get(key);
  if (width === undefined) {
    pen.font = `${weight} 16px ${FONT}`;
    width = pen.measureText(text).width / 16;
    widths.set(key, width);
  }
  return width * size;
}

/** The text or as much of its beginning as fits. */
export function shortened(text: string, room: number, size: number, weight = 400): string {
  if (textWidth(text, size, weight) <= room) return text;
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (textWidth(`${text.slice(0, middle)}…`, size, weight) <= room) low = middle;
    else high = middle - 1;
  }
  return low ? `${text.slice(0, low)}…` : "";
}

/** "f32[1,64,56,56]" as it stands on an edge: 1×64×56×56, the type only where it is not f32;
 * without what follows, such as the numbers of a quantized one. */
export function shortType(type: string): string {
  const parts = /^([^[\]]+)\[([^\]]*)\]/.exec(type);
  if (!parts) return type;
  const shape = parts[2]!
    .split(",")
    .map((size) => size.trim())
    .filter(Boolean)
    .join("×");
  if (parts[1] === "f32") return shape || "f32";
  return shape ? `${parts[1]} ${shape}` : parts[1]!;
}

/** A name without that of what it is in. */
export function within(name: string, around: string): string {
  return name.startsWith(around) ? name.slice(around.length).replace(/^[/.:]+/, "") || name : name;
}

/** The last part of a name that is a path. */
export function lastPart(name: string): string {
  const parts = name.split(/[/.:;]/).filter(Boolean);
  return parts[parts.length - 1] ?? name;
}

export function count(number: number, noun: string): string {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** The box of an operator or a closed block; `title` and `hint` are what stands in it, numbered:
 * an overlay has a number for it, which takes the hint's place. */
export function boxOf(item: Item, title: string, hint: string, numbered: boolean): Size {
  const wide = Math.max(textWidth(title, TITLE, 600), textWidth(hint, SMALL));
  const width = Math.min(Math.max(Math.ceil(wide) + 26, numbered ? 96 : 64), WIDEST);
  if (item.kind === "leaf") return { width, height: hint || numbered ? ROWS : ROW };
  return { width: Math.max(width + 22, 128), height: ROWS + 6 + thumbHeight(item) };
}

/** A closed block shows what it holds, the higher the longer its way from top to bottom is. */
function thumbHeight(block: Block): number {
  return Math.min(Math.max(12 + 5 * longest(block), 22), 66);
}

/** The most items on a path through a block. */
function longest(block: Block): number {
  const length = new Map<Item, number>(block.items.map((item) => [item, 1]));
  for (let round = 0, changed = true; changed && round < 14; round++) {
    changed = false;
    for (const { from, to } of block.edges) {
      if (!from || !to || length.get(to)! > length.get(from)!) continue;
      length.set(to, length.get(from)! + 1);
      changed = true;
    }
  }
  return Math.max(...length.values());
}

/** How much room a box wants beside its neighbours: the types below it have their place, too. */
export function labelRoom(item: Item, tree: Tree): number {
  let widest = 0;
  for (const { node, number } of item.kind === "leaf" ? [item] : ends(item)) {
    for (let port = 0; port < node.outputs.length; port++) {
      if (!tree.users[tree.first[number]! + port]!.length) continue;
      const text = shortType(node.outputs[port]!);
      widest = Math.max(widest, Math.min(textWidth(text, SMALL), LABEL));
    }
  }
  return Math.max(2 * (widest - 6), 0);
}

function ends(block: Block): Leaf[] {
  const last = block.edges.filter((edge) => edge.from && !edge.to).map((edge) => edge.from!);
  return [...new Set(last)].slice(0, 4).flatMap((item) => leavesOf(item).slice(-1));
}
