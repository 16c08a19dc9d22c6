// Draws a picture on a canvas. Only what is in view, and only as much of it as can be seen from
// there: far away, boxes are spots and lines are straight.

import type { Camera } from "./camera";
import {
  type Paint,
  type Reading,
  type Theme,
  badness,
  colourOfKind,
  filled,
  heat,
  legendOf,
  quantity,
  tinted,
  adds,
} from "./colours";
import type { Arrangement, Picture, Placed, PlacedLink } from "./layout";
import { FONT, HEAD, LABEL, ROWS, SMALL, TITLE, shortType, shortened, textWidth } from "./measures";
import { type Block, type Item, type Tree, contains, leavesOf } from "./tree";

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

const LEAST_TEXT = 7; // CSS pixels; smaller texts are left out
const STEADY_TEXT = 10.5; // titles do not get smaller than this while there is room for them
const CORNER = 7;

export function paint(
  pen: CanvasRenderingContext2D,
  picture: Picture,
  camera: Camera,
  wide: number,
  high: number,
  ratio: number,
  look: Look,
  shown = 1,
): void {
  const { zoom } = camera;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = look.theme.paper;
  pen.fillRect(0, 0, wide, high);
  pen.setTransform(
    ratio * zoom,
    0,
    0,
    ratio * zoom,
    -camera.x * zoom * ratio,
    -camera.y * zoom * ratio,
  );
  const left = camera.x;
  const top = camera.y;
  const right = left + wide / zoom;
  const bottom = top + high / zoom;
  const inView = picture.placed.filter(
    (one) =>
      one.x < right && one.x + one.width > left && one.y < bottom && one.y + one.height > top,
  );
  const links = picture.links.filter(
    (link) =>
      link.left - 2 < right && link.right + LABEL > left && link.top < bottom && link.bottom > top,
  );
  for (const one of inView) if (one.open) frame(pen, one, zoom, look);
  pen.globalAlpha = shown;
  lines(pen, links, zoom, look);
  pen.globalAlpha = 1;
  for (const one of inView) if (!one.open) box(pen, one, zoom, look);
  for (const one of inView) if (one.open) caption(pen, one, zoom, look);
  if (zoom * SMALL >= LEAST_TEXT + 0.5) {
    pen.globalAlpha = shown;
    types(pen, links, look);
    pen.globalAlpha = 1;
  }
}

/** An open block. */
function frame(pen: CanvasRenderingContext2D, one: Placed, zoom: number, look: Look): void {
  const { theme } = look;
  pen.fillStyle = theme.dark ? "rgba(255,255,255,0.028)" : "rgba(30,50,90,0.032)";
  const chosen = one.item === look.selected;
  pen.strokeStyle = chosen || one.item === look.hovered ? theme.accent : theme.line;
  pen.lineWidth = (chosen ? 2 : 1) / Math.max(zoom, 0.5);
  rounded(pen, one, CORNER + 4, zoom);
  pen.fill();
  pen.stroke();
}

function caption(pen: CanvasRenderingContext2D, one: Placed, zoom: number, look: Look): void {
  const size = Math.max(TITLE - 1, Math.min(10 / zoom, HEAD * 0.8));
  if (size * zoom < LEAST_TEXT) return;
  const { theme } = look;
  sign(pen, one.x + 14, one.y + HEAD / 2, theme.soft, false);
  const text = shortened(look.title(one.item), one.width - 34, size, 600);
  const wide = textWidth(text, size, 600);
  pen.fillStyle = theme.paper; // lines that enter pass below the name
  pen.globalAlpha = 0.8;
  pen.fillRect(one.x + 22, one.y + HEAD / 2 - size / 2 - 1, wide + 6, size + 3);
  pen.globalAlpha = 1;
  pen.fillStyle = theme.soft;
  write(pen, text, one.x + 25, one.y + HEAD / 2, size, 600);
}

/** A round button with a plus or a minus. */
function sign(
  pen: CanvasRenderingContext2D,
  x: number,
  y: number,
  colour: string,
  plus: boolean,
): void {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.2;
  pen.beginPath();
  pen.arc(x, y, 6, 0, 2 * Math.PI);
  pen.moveTo(x - 3, y);
  pen.lineTo(x + 3, y);
  if (plus) {
    pen.moveTo(x, y - 3);
    pen.lineTo(x, y + 3);
  }
  pen.stroke();
}

/** Where the button of a block is that opens or closes it. */
export function buttonOf(one: Placed): { x: number; y: number } {
  return one.open
    ? { x: one.x + 14, y: one.y + HEAD / 2 }
    : { x: one.x + one.width - 15, y: one.y + 15 };
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

function box(pen: CanvasRenderingContext2D, one: Placed, zoom: number, look: Look): void {
  const { item } = one;
  const colours = paintOf(item, look);
  const dimmed = look.picked !== null && !look.picked.has(item);
  if (dimmed) pen.globalAlpha = 0.22;
  const chosen = item === look.selected;
  const hovered = item === look.hovered;
  const far = one.height * zoom < 5;
  if (item.kind === "block" && !far) {
    // the edge of a card below says that there is more in it
    pen.fillStyle = colours.fill;
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1;
    rounded(pen, { ...one, x: one.x + 4, y: one.y + 4 }, CORNER, zoom);
    pen.fill();
    pen.stroke();
  }
  pen.fillStyle = far && !look.reading && item.kind === "leaf" ? colours.line : colours.fill;
  if (far) {
    pen.fillRect(one.x, one.y, one.width, one.height);
  } else {
    const port =
      item.kind === "leaf" && (item.node.kind === "input" || item.node.kind === "output");
    rounded(pen, one, port ? one.height / 2 : CORNER, zoom);
    pen.fill();
    pen.strokeStyle = chosen || hovered ? look.theme.accent : colours.line;
    pen.lineWidth = chosen ? 2.5 / Math.min(Math.max(zoom, 0.4), 1) : 1.2;
    if (item.kind === "leaf" && item.node.kind === "folded") pen.setLineDash([4, 3]);
    pen.stroke();
    pen.setLineDash([]);
  }
  if (far && chosen) ring(pen, one, zoom, look.theme.accent);
  if (look.picked?.has(item) && !chosen) ring(pen, one, zoom, look.theme.accent);
  if (!far && look.fresh.has(item)) {
    pen.fillStyle = look.theme.accent;
    pen.beginPath();
    pen.arc(one.x + one.width - 1, one.y + 1, 3.5, 0, 2 * Math.PI);
    pen.fill();
  }
  texts(pen, one, zoom, look, colours);
  if (dimmed) pen.globalAlpha = 1;
}

function ring(pen: CanvasRenderingContext2D, one: Placed, zoom: number, colour: string): void {
  const wide = Math.max(1.6, 1.6 / zoom);
  pen.strokeStyle = colour;
  pen.lineWidth = wide;
  const around = {
    x: one.x - wide * 1.5,
    y: one.y - wide * 1.5,
    width: one.width + 3 * wide,
    height: one.height + 3 * wide,
  };
  rounded(pen, around, CORNER + wide, zoom);
  pen.stroke();
}

function texts(
  pen: CanvasRenderingContext2D,
  one: Placed,
  zoom: number,
  look: Look,
  colours: Paint,
): void {
  const { item } = one;
  const block = item.kind === "block";
  const second = secondLine(item, look);
  const room = one.width - (block ? 34 : 12);
  let size = TITLE;
  if (zoom * TITLE < STEADY_TEXT) {
    // seen from farther away the title stays legible as long as its box has room
    size = Math.min(STEADY_TEXT / zoom, block ? 30 : one.height - 6, TITLE * 2.4);
    const title = look.title(item);
    const wide = textWidth(title, size, 600);
    const least = Math.max(Math.min(size, (LEAST_TEXT + 1) / zoom), TITLE);
    if (wide > room + 8) size = Math.max((size * (room + 8)) / wide, least);
  }
  if (size * zoom < LEAST_TEXT) {
    if (block && one.height * zoom > 12) thumb(pen, one, zoom, look, ROWS);
    return;
  }
  const two = second !== "" && zoom * SMALL >= LEAST_TEXT && size < TITLE * 1.35;
  const middle = block ? one.y + (two ? 15 : 21) : one.y + (two ? 15 : one.height / 2 + 0.5);
  const title = shortened(look.title(item), room + (size > TITLE ? 8 : 0), size, 600);
  pen.fillStyle = colours.ink;
  if (block) write(pen, title, one.x + 11, middle, size, 600);
  else
    write(pen, title, one.x + one.width / 2 - textWidth(title, size, 600) / 2, middle, size, 600);
  if (two) {
    const text = shortened(second, one.width - 12, SMALL);
    pen.fillStyle = colours.soft;
    const x = block ? one.x + 11 : one.x + one.width / 2 - textWidth(text, SMALL) / 2;
    write(pen, text, x, middle + 15, SMALL, 400);
  }
  if (block) {
    thumb(pen, one, zoom, look, ROWS);
    if (zoom > 0.45) sign(pen, one.x + one.width - 15, one.y + 15, colours.soft, true);
  }
}

/** Below the title: the overlay's number, or what the operator says of itself. */
export function secondLine(item: Item, look: Look): string {
  const value = look.reading?.of.get(item);
  if (look.reading && value !== undefined) {
    const text = quantity(value, look.reading.overlay.unit);
    const share = (100 * value) / look.reading.total;
    return adds(look.reading.overlay) ? `${text} · ${share < 1 ? "<1" : Math.round(share)}%` : text;
  }
  return look.hint(item);
}

/** What a closed block holds, small. */
function thumb(
  pen: CanvasRenderingContext2D,
  one: Placed,
  zoom: number,
  look: Look,
  from: number,
): void {
  const block = one.item as Block;
  const inside = look.thumb(block);
  if (!inside) return;
  const room = {
    x: one.x + 10,
    y: one.y + from,
    width: one.width - 20,
    height: one.height - from - 7,
  };
  const scale = Math.min(room.width / inside.width, room.height / inside.height);
  if (room.height * zoom < 6) return;
  // wide enough to be seen: a chain of boxes fills at least a part of the width
  const stretch = Math.min(room.width / (inside.width * scale), 5);
  const x = room.x + (room.width - inside.width * scale * stretch) / 2;
  const y = room.y + (room.height - inside.height * scale) / 2;
  pen.strokeStyle = look.theme.edge;
  pen.lineWidth = 0.6;
  small(pen, block, inside, { x, y, wide: scale * stretch, high: scale }, look);
}

interface Scale {
  readonly x: number;
  readonly y: number;
  readonly wide: number;
  readonly high: number;
}

function small(
  pen: CanvasRenderingContext2D,
  block: Block,
  inside: Arrangement,
  at: Scale,
  look: Look,
): void {
  pen.beginPath();
  for (const { points } of inside.links) {
    pen.moveTo(at.x + points[0]! * at.wide, at.y + points[1]! * at.high);
    for (let i = 2; i < points.length; i += 2)
      pen.lineTo(at.x + points[i]! * at.wide, at.y + points[i + 1]! * at.high);
  }
  pen.stroke();
  block.items.forEach((item, i) => {
    const { width, height } = inside.sizes[i]!;
    const x = at.x + inside.lefts[i]! * at.wide;
    const y = at.y + inside.tops[i]! * at.high;
    const deeper = inside.inner[i];
    if (deeper) {
      small(pen, item as Block, deeper, { ...at, x, y }, look);
      return;
    }
    const high = Math.max(height * at.high, 1.5);
    const top = y + (height * at.high - high) / 2;
    let left = x;
    for (const [colour, share] of item.kind === "leaf" || look.reading
      ? [[spot(item, look), 1] as const]
      : shares(item)) {
      pen.fillStyle = colour;
      pen.fillRect(left, top, width * at.wide * share, high);
      left += width * at.wide * share;
    }
  });
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

/** The colour of an item where it is too small for more than a colour. */
export function spot(item: Item, look: Look): string {
  if (look.reading) return paintOf(item, look).fill;
  return item.kind === "leaf" ? colourOfKind(item.node.kind) : look.theme.soft;
}

const ARROW = 4.5;

function lines(pen: CanvasRenderingContext2D, links: PlacedLink[], zoom: number, look: Look): void {
  const { theme, selected } = look;
  const lit = selected ? litLinks(links, selected, look.tree) : null;
  const plain = lit ? links.filter((link) => !lit.has(link)) : links;
  pen.lineWidth = Math.min(Math.max(1.2, 0.55 / zoom), 3);
  pen.strokeStyle = pen.fillStyle = theme.edge;
  stroke(
    pen,
    plain.filter((link) => link.values[0]! >= 0),
    zoom,
  );
  pen.setLineDash([5, 4]);
  stroke(
    pen,
    plain.filter((link) => link.values[0]! < 0),
    zoom,
  );
  pen.setLineDash([]);
  if (lit?.size) {
    pen.lineWidth = Math.max(2, 1.2 / zoom);
    pen.strokeStyle = pen.fillStyle = theme.accent;
    stroke(pen, [...lit], zoom);
  }
}

function stroke(pen: CanvasRenderingContext2D, links: PlacedLink[], zoom: number): void {
  if (!links.length) return;
  const near = zoom > 0.22;
  pen.beginPath();
  for (const { points, turns } of links) {
    if (turns) corners(pen, points);
    else trace(pen, points, near);
  }
  pen.stroke();
  if (zoom < 0.3) return;
  pen.beginPath();
  for (const { points, to } of links) {
    if (!to) continue;
    const x = points[points.length - 2]!;
    const y = points[points.length - 1]!;
    pen.moveTo(x, y);
    pen.lineTo(x - ARROW * 0.7, y - ARROW * 1.3);
    pen.lineTo(x + ARROW * 0.7, y - ARROW * 1.3);
  }
  pen.fill();
}

/** A line that leaves and arrives straight down, and goes on smoothly in between. */
function trace(pen: CanvasRenderingContext2D, points: number[], near: boolean): void {
  let x = points[0]!;
  let y = points[1]!;
  pen.moveTo(x, y);
  for (let i = 2; i < points.length; i += 2) {
    const toX = points[i]!;
    const toY = points[i + 1]!;
    if (!near || x === toX) {
      pen.lineTo(toX, toY);
    } else {
      const bend = toY > y ? (toY - y) / 2 : 24; // upwards: out below, in above
      pen.bezierCurveTo(x, y + bend, toX, toY - bend, toX, toY);
    }
    x = toX;
    y = toY;
  }
}

/** A line into the next column. */
function corners(pen: CanvasRenderingContext2D, points: number[]): void {
  pen.moveTo(points[0]!, points[1]!);
  for (let i = 2; i < points.length - 2; i += 2) {
    pen.arcTo(points[i]!, points[i + 1]!, points[i + 2]!, points[i + 3]!, 10);
  }
  pen.lineTo(points[points.length - 2]!, points[points.length - 1]!);
}

/** What the selected item reads, from where it is made, and what it makes, to all who read it. */
function litLinks(links: PlacedLink[], selected: Item, tree: Tree): Set<PlacedLink> {
  const lit = new Set<PlacedLink>();
  if (selected.kind === "block") {
    for (const link of links) if (link.from === selected || link.to === selected) lit.add(link);
    return lit;
  }
  const { node, number } = selected;
  const start = tree.first[number]!;
  const made = (value: number): boolean => value >= start && value < start + node.outputs.length;
  const read = new Set(node.inputs.map(([from, port]) => tree.first[from]! + port));
  for (const link of links) {
    if (link.values.some(made)) lit.add(link);
    else if (
      link.values.some((value) => read.has(value)) &&
      (!link.to || contains(link.to, selected))
    )
      lit.add(link);
  }
  return lit;
}

/** Types of values, once for each, where they leave their box. */
function types(pen: CanvasRenderingContext2D, links: PlacedLink[], look: Look): void {
  pen.fillStyle = look.theme.soft;
  pen.font = `400 ${SMALL}px ${FONT}`;
  pen.textBaseline = "middle";
  const done = new Set<string>();
  for (const { from, values, points } of links) {
    if (!from || values[0]! < 0) continue;
    const key = `${from.id} ${values[0]}`;
    if (done.has(key)) continue;
    done.add(key);
    const text = shortened(shortType(look.tree.values[values[0]!]!.type), LABEL, SMALL);
    pen.fillText(text, points[0]! + 5, points[1]! + 10);
  }
}

function write(
  pen: CanvasRenderingContext2D,
  text: string,
  x: number,
  y: number,
  size: number,
  weight: number,
): void {
  const font = `${weight} ${size}px ${FONT}`;
  if (pen.font !== font) pen.font = font;
  pen.textBaseline = "middle";
  pen.fillText(text, x, y);
}

function rounded(
  pen: CanvasRenderingContext2D,
  at: { x: number; y: number; width: number; height: number },
  corner: number,
  zoom: number,
): void {
  pen.beginPath();
  if (zoom < 0.25) pen.rect(at.x, at.y, at.width, at.height);
  else pen.roundRect(at.x, at.y, at.width, at.height, corner);
}
