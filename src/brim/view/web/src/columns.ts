// A long network in columns, as a page of text is: so that its whole fits a wide screen.
//
// It may break where only one value goes on. Breaks are chosen once, with all blocks closed, and
// stay where they are when blocks are opened, so that nothing jumps from column to column.

import type { Size } from "./measures";
import type { Arrangement } from "./layout";
import type { Block } from "./tree";

const BETWEEN = 56; // columns
const TURN = 20; // a line goes on below its column, and enters above the next
const MOST = 6;

interface Cut {
  /** The first item below. */
  readonly item: number;
  readonly y: number;
}

export interface Columns extends Size {
  /** By item and by link of the arrangement. */
  readonly items: { x: number; y: number }[];
  readonly links: { x: number; y: number }[];
  /** Links that go on in the next column: their corners. */
  readonly turns: Map<number, number[]>;
}

/** Where a block can break: between items, where nothing but one link passes. */
function cuts(block: Block, found: Arrangement): Cut[] {
  const order = block.items.map((_, i) => i).sort((a, b) => found.tops[a]! - found.tops[b]!);
  const possible: Cut[] = [];
  let bottom = -Infinity;
  for (const item of order) {
    const top = found.tops[item]!;
    if (top > bottom + 4 && bottom > -Infinity) {
      const y = (bottom + top) / 2;
      const passing = found.links.filter((link) => crosses(link.points, y));
      if (passing.length === 1) possible.push({ item, y });
    }
    bottom = Math.max(bottom, top + found.sizes[item]!.height);
  }
  return possible;
}

function crosses(points: number[], y: number): boolean {
  const ys = points.filter((_, i) => i % 2 === 1);
  return Math.min(...ys) < y && Math.max(...ys) > y;
}

/** The items that open a new column so that the picture fills a view of this shape best. */
export function breaksFor(block: Block, found: Arrangement, view: Size): Set<string> {
  const possible = cuts(block, found);
  const ends = [...possible.map((cut) => cut.y), found.height];
  let best: { zoom: number; breaks: Cut[] } = { zoom: zoomOf(found, view), breaks: [] };
  for (let columns = 2; columns <= MOST && best.zoom < 1; columns++) {
    // the lowest height at which that many columns are enough
    let low = found.height / columns;
    let high = found.height;
    for (let i = 0; i < 20; i++) {
      const middle = (low + high) / 2;
      if (fill(possible, ends, middle).length < columns) high = middle;
      else low = middle;
    }
    const breaks = fill(possible, ends, high);
    const size = inColumns(block, found, new Set(breaks.map((cut) => block.items[cut.item]!.id)));
    const zoom = zoomOf(size, view);
    if (zoom > best.zoom * 1.15) best = { zoom, breaks };
  }
  return new Set(best.breaks.map((cut) => block.items[cut.item]!.id));
}

function zoomOf(size: Size, view: Size): number {
  return Math.min(view.width / size.width, view.height / size.height, 1);
}

/** Breaks so that no column is higher than this, where that can be. */
function fill(possible: Cut[], ends: number[], height: number): Cut[] {
  const breaks: Cut[] = [];
  let start = 0;
  possible.forEach((cut, i) => {
    if (ends[i + 1]! - start > height && cut.y > start) {
      breaks.push(cut);
      start = cut.y;
    }
  });
  return breaks;
}

/** Moves what follows a break beside what is before it. Breaks that are none any more, as in
 * another stage, are passed over. */
export function inColumns(block: Block, found: Arrangement, breaks: Set<string>): Columns {
  const chosen = cuts(block, found).filter((cut) => breaks.has(block.items[cut.item]!.id));
  const column = (y: number): number => chosen.filter((cut) => cut.y < y).length;
  const extents = Array.from({ length: chosen.length + 1 }, () => ({
    left: Infinity,
    right: -Infinity,
    top: Infinity,
    bottom: -Infinity,
  }));
  const widen = (at: number, left: number, right: number, top: number, bottom: number): void => {
    const extent = extents[at]!;
    extent.left = Math.min(extent.left, left);
    extent.right = Math.max(extent.right, right);
    extent.top = Math.min(extent.top, top);
    extent.bottom = Math.max(extent.bottom, bottom);
  };
  const ofItem = block.items.map((_, i) => {
    const at = column(found.tops[i]!);
    const { width, height } = found.sizes[i]!;
    const left = found.lefts[i]!;
    const right = Math.max(left + width, left + (width + found.rooms[i]!) / 2);
    widen(at, left, right, found.tops[i]!, found.tops[i]! + height);
    return at;
  });
  const ofLink = found.links.map(({ points }) => {
    const from = column(points[1]!);
    const xs = points.filter((_, i) => i % 2 === 0);
    if (from === column(points[points.length - 1]!))
      widen(from, Math.min(...xs), Math.max(...xs), Infinity, -Infinity);
    return from;
  });
  const margin = chosen.length ? TURN : 0;
  const shifts: { x: number; y: number }[] = [];
  let x = extents[0]!.left;
  for (const extent of extents) {
    shifts.push({ x: x - extent.left, y: extents[0]!.top + margin - extent.top });
    x += extent.right - extent.left + BETWEEN;
  }
  const turns = new Map<number, number[]>();
  found.links.forEach(({ points }, i) => {
    const from = ofLink[i]!;
    const to = column(points[points.length - 1]!);
    if (to === from) return;
    const start = shifts[from]!;
    const end = shifts[to]!;
    const [x0, y0] = [points[0]! + start.x, points[1]! + start.y];
    const [x1, y1] = [points[points.length - 2]! + end.x, points[points.length - 1]! + end.y];
    const between = extents[to]!.left + end.x - BETWEEN / 2;
    turns.set(i, [
      x0,
      y0,
      x0,
      y0 + TURN,
      between,
      y0 + TURN,
      between,
      y1 - TURN,
      x1,
      y1 - TURN,
      x1,
      y1,
    ]);
  });
  const last = extents[extents.length - 1]!;
  const bottoms = extents.map((extent, i) => extent.bottom + shifts[i]!.y);
  return {
    items: ofItem.map((at) => shifts[at]!),
    links: ofLink.map((at) => shifts[at]!),
    turns,
    width: chosen.length
      ? last.right + shifts[shifts.length - 1]!.x + extents[0]!.left
      : found.width,
    height: chosen.length ? Math.max(...bottoms) + margin + extents[0]!.top : found.height,
  };
}
