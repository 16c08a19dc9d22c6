// The lines between boxes, and what goes along them.

import type { PlacedLink } from "./layout";
import type { Look } from "./look";
import { FONT, LABEL, SMALL, shortType, shortened, textWidth } from "./measures";
import { type Item, type Tree, contains } from "./tree";

const ARROW = 4.5;
const ROWS_OF_TYPES = 3; // have room between two layers

export function lines(
  pen: CanvasRenderingContext2D,
  links: PlacedLink[],
  zoom: number,
  look: Look,
): void {
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
export function types(pen: CanvasRenderingContext2D, links: PlacedLink[], look: Look): void {
  pen.fillStyle = look.theme.soft;
  pen.font = `400 ${SMALL}px ${FONT}`;
  pen.textBaseline = "middle";
  const done = new Set<string>();
  const written = new Map<string, { left: number; right: number }[]>();
  for (const { from, values, points } of links) {
    if (!from || values[0]! < 0) continue;
    const key = `${from.id} ${values[0]}`;
    if (done.has(key)) continue;
    done.add(key);
    const text = shortened(shortType(look.tree.values[values[0]!]!.type), LABEL, SMALL);
    // those of several values of one box stand below each other
    const others = written.get(from.id) ?? [];
    const left = points[0]! + 5;
    const right = left + textWidth(text, SMALL);
    const row = others.filter((other) => left < other.right && right > other.left).length;
    if (row >= ROWS_OF_TYPES) continue;
    written.set(from.id, [...others, { left, right }]);
    pen.fillText(text, left, points[1]! + 10 + row * 12);
  }
}
