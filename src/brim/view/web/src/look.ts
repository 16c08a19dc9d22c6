// How a picture is drawn now: in which colours, with what selected, picked out, named.

import {
  type Paint,
  type Reading,
  type Theme,
  adds,
  badness,
  colourOfKind,
  filled,
  heat,
  legendOf,
  quantity,
  tinted,
} from "./colours";
import type { Arrangement } from "./layout";
import { type Block, type Item, type Tree, leavesOf } from "./tree";

export interface Look {
  readonly theme: Theme;
  readonly tree: Tree;
  readonly reading: Reading | null;
  readonly selected: Item | null;
  readonly hovered: Item | null;
  /** What a search or the legend picked out; null: everything. */
  readonly picked: Set<Item> | null;
  /** Operators that the stage before did not have. */
  readonly fresh: Set<Item>;
  readonly title: (item: Item) => string;
  readonly hint: (item: Item) => string;
  readonly thumb: (block: Block) => Arrangement | null;
}

export function paintOf(item: Item, look: Look): Paint {
  const { reading, theme } = look;
  if (reading) {
    const value = reading.of.get(item);
    return value === undefined ? tinted("#8b95a5", theme) : heat(badness(reading, value), theme);
  }
  if (item.kind === "block")
    return { fill: theme.card, line: theme.edge, ink: theme.ink, soft: theme.soft };
  const { kind } = item.node;
  const colour = colourOfKind(kind);
  return kind === "input" || kind === "output" ? filled(colour, theme) : tinted(colour, theme);
}

/** Below the title: the overlay's number, or what the operator says of itself. */
export function secondLine(item: Item, look: Look): string {
  const value = look.reading?.of.get(item);
  if (look.reading && value !== undefined) {
    const text = quantity(value, look.reading.overlay.unit);
    if (look.reading.shared.has(item)) return `${text}, fused`;
    if (!adds(look.reading.overlay)) return text;
    const share = (100 * value) / look.reading.total;
    return `${text} · ${share < 1 ? "<1" : Math.round(share)}%`;
  }
  return look.hint(item);
}

/** An item where it is too small for more than colours: those of all that is in it. */
export function spot(
  pen: CanvasRenderingContext2D,
  item: Item,
  at: { x: number; y: number; width: number; height: number },
  look: Look,
): void {
  const plain = item.kind === "leaf" || look.reading !== null;
  let { x } = at;
  for (const [colour, share] of plain ? [[colourOf(item, look), 1] as const] : shares(item)) {
    pen.fillStyle = colour;
    pen.fillRect(x, at.y, at.width * share, at.height);
    x += at.width * share;
  }
}

function colourOf(item: Item, look: Look): string {
  if (look.reading || item.kind === "block") return paintOf(item, look).fill;
  return colourOfKind(item.node.kind);
}

const known = new WeakMap<Block, (readonly [string, number])[]>();

/** The colours of the kinds in a block, and how much of it they are. */
function shares(block: Block): (readonly [string, number])[] {
  let found = known.get(block);
  if (!found) {
    const counts = legendOf(leavesOf(block));
    found = counts.map(({ colour, count }) => [colour, count / block.leaves] as const);
    known.set(block, found);
  }
  return found;
}
