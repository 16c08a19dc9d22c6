// Where everything stands. Each block is laid out alone, in layers from top to bottom, by dagre;
// blocks that look alike are laid out once. What is closed is never looked into.

import { graphlib, layout } from "@dagrejs/dagre";
import { inColumns } from "./columns";
import { HEAD, PAD, type Size, labelRoom } from "./measures";
import type { Block, Edge, Item, Tree } from "./tree";

export interface Link {
  readonly from: Item | null;
  readonly to: Item | null;
  readonly values: number[];
  /** x, y, x, y, ... from the upper end to the lower one. */
  points: number[];
}

/** What is in a block, relative to its upper left corner. */
export interface Arrangement extends Size {
  readonly lefts: number[];
  readonly tops: number[];
  readonly sizes: Size[];
  /** The width of each with the types that stand below it. */
  readonly rooms: number[];
  readonly links: Link[];
  readonly inner: (Arrangement | null)[];
  /** Where values cross the upper and the lower border. */
  readonly inlets: Map<number, number>;
  readonly outlets: Map<number, number>;
}

export interface Placed {
  readonly item: Item;
  readonly open: boolean;
  readonly depth: number;
  x: number;
  y: number;
  readonly width: number;
  readonly height: number;
}

export interface PlacedLink extends Link {
  /** Goes round corners into the next column. */
  readonly turns: boolean;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Picture extends Size {
  /** Blocks before what is in them. */
  readonly placed: Placed[];
  readonly links: PlacedLink[];
  readonly byId: Map<string, Placed>;
}

export type BoxOf = (item: Item) => Size;

const BETWEEN_LAYERS = 40;
const BETWEEN_BOXES = 26;
const MANY = 120; // items; more of them are ranked by the quicker way
const BORDER = 0.45; // of a gap between layers is left between a border and the first layer

interface Extent {
  readonly top: number;
  readonly bottom: number;
}

interface Skeleton extends Size {
  /** By box: the layer it is in, which is as high as its highest box. */
  readonly layers: Extent[];
  readonly xs: number[];
  readonly ys: number[];
  readonly points: number[][];
  readonly inlets: number[];
  readonly outlets: number[];
}

const skeletons = new Map<string, Skeleton>();

/** Lays out a block, and before that the open ones in it. `boxOf`: the sizes of all others. */
export function arrange(
  block: Block,
  open: (block: Block) => boolean,
  boxOf: BoxOf,
  tree: Tree,
): Arrangement {
  const position = new Map<Item, number>(block.items.map((item, i) => [item, i]));
  const inner = block.items.map((item) =>
    item.kind === "block" && open(item) ? arrange(item, open, boxOf, tree) : null,
  );
  const sizes = block.items.map((item, i) => inner[i] ?? boxOf(item));
  const rooms = block.items.map((item, i) =>
    Math.max(sizes[i]!.width, inner[i] ? 0 : labelRoom(item, tree)),
  );
  const entering = [...new Set(block.edges.filter((edge) => !edge.from).map((edge) => edge.value))];
  const leaving = [...new Set(block.edges.filter((edge) => !edge.to).map((edge) => edge.value))];
  const name = (edge: Edge, end: Item | null, border: string): string =>
    end
      ? `${position.get(end)}`
      : `${border}${(border === "i" ? entering : leaving).indexOf(edge.value)}`;
  const groups = new Map<string, { link: Link; pair: string }>();
  for (const edge of block.edges) {
    const pair = `${name(edge, edge.from, "i")} ${name(edge, edge.to, "o")}`;
    const apart =
      (edge.from && inner[position.get(edge.from)!]) || (edge.to && inner[position.get(edge.to)!]);
    const key = apart ? `${pair} ${edge.value}` : pair;
    const group = groups.get(key);
    if (group) group.link.values.push(edge.value);
    else
      groups.set(key, {
        pair,
        link: { from: edge.from, to: edge.to, values: [edge.value], points: [] },
      });
  }
  const pairs = [...new Set([...groups.values()].map((group) => group.pair))];
  const found = skeleton(
    sizes.map((size, i) => ({ width: rooms[i]!, height: size.height })),
    pairs,
    entering.length,
    leaving.length,
  );

  const shift = block.parent ? { x: PAD, y: HEAD } : { x: PAD, y: PAD };
  const lefts = sizes.map((size, i) => found.xs[i]! - size.width / 2 + shift.x);
  const tops = sizes.map((size, i) => found.ys[i]! - size.height / 2 + shift.y);
  const width = found.width + 2 * PAD;
  const height = found.height + shift.y + PAD;
  const inlets = new Map(entering.map((value, i) => [value, found.inlets[i]! + shift.x]));
  const outlets = new Map(leaving.map((value, i) => [value, found.outlets[i]! + shift.x]));
  const arrangement: Arrangement = {
    width,
    height,
    lefts,
    tops,
    sizes,
    rooms,
    inner,
    inlets,
    outlets,
    links: [...groups.values()].map((group) => group.link),
  };
  const middles = new Map(pairs.map((pair, i) => [pair, found.points[i]!]));
  for (const { link, pair } of groups.values()) {
    link.points = middles.get(pair)!.map((at, i) => at + (i % 2 ? shift.y : shift.x));
  }
  const layers = found.layers.map(({ top, bottom }) => ({
    top: top + shift.y,
    bottom: bottom + shift.y,
  }));
  attach(block, arrangement, position, layers);
  return arrangement;
}

/** Gives links their ends: side by side on the borders of boxes, on open blocks where they go on. */
function attach(
  block: Block,
  found: Arrangement,
  position: Map<Item, number>,
  layers: Extent[],
): void {
  const arriving: Link[][] = block.items.map(() => []);
  const going: Link[][] = block.items.map(() => []);
  for (const link of found.links) {
    if (link.from) going[position.get(link.from)!]!.push(link);
    if (link.to) arriving[position.get(link.to)!]!.push(link);
  }
  // where a line is before it arrives at a box, and after it leaves one
  const border = (item: Item, value: number, side: "inlets" | "outlets"): number => {
    const i = position.get(item)!;
    return found.lefts[i]! + (found.inner[i]?.[side].get(value) ?? found.sizes[i]!.width / 2);
  };
  const above = ({ points, from, values: [value] }: Link): number =>
    points[points.length - 2] ??
    (from ? border(from, value!, "outlets") : found.inlets.get(value!)!);
  const below = ({ points, to, values: [value] }: Link): number =>
    points[0] ?? (to ? border(to, value!, "inlets") : found.outlets.get(value!)!);
  const start = new Map<Link, [number, number]>();
  const end = new Map<Link, [number, number]>();
  block.items.forEach((_, i) => {
    const { width, height } = found.sizes[i]!;
    const left = found.lefts[i]!;
    const top = found.tops[i]!;
    const inner = found.inner[i];
    const ordered = [...arriving[i]!].sort((a, b) => above(a) - above(b));
    ordered.forEach((link, j) => {
      const x = inner?.inlets.get(link.values[0]!) ?? spread(width, j, ordered.length);
      end.set(link, [left + x, top]);
    });
    const values = [...new Set(going[i]!.map((link) => link.values[0]!))];
    const aim = (value: number): number => {
      const links = going[i]!.filter((link) => link.values[0] === value);
      return links.reduce((sum, link) => sum + below(link), 0) / links.length;
    };
    const places = values.map((value) => [value, aim(value)] as const).sort((a, b) => a[1] - b[1]);
    const order = new Map(places.map(([value], j) => [value, j]));
    for (const link of going[i]!) {
      const value = link.values[0]!;
      const x = inner?.outlets.get(value) ?? spread(width, order.get(value)!, values.length);
      start.set(link, [left + x, top + height]);
    }
  });
  for (const link of found.links) {
    const value = link.values[0]!;
    const upper = start.get(link) ?? [found.inlets.get(value)!, 0];
    const lower = end.get(link) ?? [found.outlets.get(value)!, found.height];
    // past taller boxes of the same layer the line goes straight
    const low = link.from ? layers[position.get(link.from)!]!.bottom : 0;
    const high = link.to ? layers[position.get(link.to)!]!.top : found.height;
    const between = low < high;
    const path = [
      ...(between && low > upper[1] + 2 ? [upper[0], low] : []),
      ...straight(link.points, upper[0], lower[0]),
      ...(between && high < lower[1] - 2 ? [lower[0], high] : []),
    ];
    link.points = [...upper, ...path, ...lower];
  }
}

function spread(width: number, place: number, places: number): number {
  return width / 2 + (place - (places - 1) / 2) * Math.min(18, (width * 0.7) / places);
}

/** Without the points between which a line goes straight down anyway. */
function straight(points: number[], first: number, last: number): number[] {
  const kept: number[] = [];
  for (let i = 0; i < points.length; i += 2) {
    const before = i ? points[i - 2]! : first;
    const after = i + 2 < points.length ? points[i + 2]! : last;
    const x = points[i]!;
    if (Math.abs(x - before) > 0.5 || Math.abs(x - after) > 0.5) kept.push(x, points[i + 1]!);
  }
  return kept;
}

/** dagre's answer for boxes 0, 1, ... and edges "from to" between them, i0, i1, ... (values that
 * enter) and o0, o1, ... (values that leave). */
function skeleton(boxes: Size[], pairs: string[], entering: number, leaving: number): Skeleton {
  const sizes = boxes.map(({ width, height }) => `${width.toFixed(0)},${height.toFixed(0)}`);
  const key = [sizes.join(" "), pairs.join(), entering, leaving].join(";");
  let found = skeletons.get(key);
  if (!found) {
    found = layered(boxes, pairs, entering, leaving);
    skeletons.set(key, found);
  }
  return found;
}

function layered(boxes: Size[], pairs: string[], entering: number, leaving: number): Skeleton {
  if (!boxes.length) {
    return { width: 0, height: 0, layers: [], xs: [], ys: [], points: [], inlets: [], outlets: [] };
  }
  const graph = new graphlib.Graph();
  graph.setGraph({
    rankdir: "TB",
    nodesep: BETWEEN_BOXES,
    edgesep: 14,
    ranksep: BETWEEN_LAYERS,
    ranker: boxes.length > MANY ? "tight-tree" : "network-simplex",
  });
  graph.setDefaultEdgeLabel(() => ({}));
  boxes.forEach((box, i) => graph.setNode(`${i}`, { width: box.width, height: box.height }));
  const port = { width: 8, height: 0 };
  // All that enters comes in one layer at the top, all that leaves goes in one at the bottom.
  if (entering) graph.setNode("top", { width: 0, height: 0 });
  if (leaving) graph.setNode("bottom", { width: 0, height: 0 });
  for (let i = 0; i < entering; i++)
    graph.setNode(`i${i}`, { ...port }).setEdge("top", `i${i}`, { weight: 20 });
  for (let i = 0; i < leaving; i++)
    graph.setNode(`o${i}`, { ...port }).setEdge(`o${i}`, "bottom", { weight: 20 });
  const starts = new Set(boxes.map((_, i) => `${i}`));
  const stops = new Set(starts);
  for (const pair of pairs) {
    const [from, to] = pair.split(" ") as [string, string];
    graph.setEdge(from, to, { weight: 1 });
    stops.delete(from);
    starts.delete(to);
  }
  if (entering) for (const i of starts) graph.setEdge("i0", i, { weight: 0 });
  if (leaving) for (const i of stops) graph.setEdge(i, "o0", { weight: 0 });
  layout(graph);
  const at = (name: string): { x: number; y: number } =>
    graph.node(name) as { x: number; y: number };
  const xs = boxes.map((_, i) => at(`${i}`).x);
  const ys = boxes.map((_, i) => at(`${i}`).y);
  const ports = (letter: string, number: number): number[] =>
    Array.from({ length: number }, (_, i) => at(`${letter}${i}`).x);
  const inlets = ports("i", entering);
  const outlets = ports("o", leaving);
  const points = pairs.map((pair) => {
    const [from, to] = pair.split(" ") as [string, string];
    const path = (graph.edge(from, to) as { points: { x: number; y: number }[] }).points.slice(
      1,
      -1,
    );
    if (path.length === 1) return []; // between neighbouring layers
    return path.flatMap((point) => [point.x, point.y]);
  });
  const reach = boxes.map((box) => box.width / 2);
  const turns = points.flatMap((path) => path.filter((_, i) => i % 2 === 0));
  const left = Math.min(...xs.map((x, i) => x - reach[i]!), ...inlets, ...outlets, ...turns);
  const right = Math.max(...xs.map((x, i) => x + reach[i]!), ...inlets, ...outlets, ...turns);
  const gap = BETWEEN_LAYERS * BORDER;
  const top = Math.min(...ys.map((y, i) => y - boxes[i]!.height / 2)) - (entering ? gap : 0);
  const bottom = Math.max(...ys.map((y, i) => y + boxes[i]!.height / 2)) + (leaving ? gap : 0);
  const half = new Map<number, number>(); // of the highest box, by the middle of a layer
  ys.forEach((y, i) => half.set(y, Math.max(half.get(y) ?? 0, boxes[i]!.height / 2)));
  return {
    width: right - left,
    height: bottom - top,
    layers: ys.map((y) => ({ top: y - half.get(y)! - top, bottom: y + half.get(y)! - top })),
    xs: xs.map((x) => x - left),
    ys: ys.map((y) => y - top),
    inlets: inlets.map((x) => x - left),
    outlets: outlets.map((x) => x - left),
    points: points.map((path) =>
      path.map((to, i) => (i % 2 ? Math.min(Math.max(to - top, 0), bottom - top) : to - left)),
    ),
  };
}

/** The arrangement in coordinates of the whole picture; items of `breaks` open new columns. */
export function pictureOf(root: Block, arrangement: Arrangement, breaks: Set<string>): Picture {
  const columns = inColumns(root, arrangement, breaks);
  const placed: Placed[] = [];
  const links: PlacedLink[] = [];
  const put = (block: Block, found: Arrangement, x: number, y: number, depth: number): void => {
    const shifts = block === root ? columns : null;
    block.items.forEach((item, i) => {
      const inner = found.inner[i]!;
      const left = x + found.lefts[i]! + (shifts?.items[i]!.x ?? 0);
      const top = y + found.tops[i]! + (shifts?.items[i]!.y ?? 0);
      const { width, height } = found.sizes[i]!;
      placed.push({ item, open: inner !== null, depth, x: left, y: top, width, height });
      if (inner) put(item as Block, inner, left, top, depth + 1);
    });
    found.links.forEach((link, number) => {
      const shift = shifts?.links[number] ?? { x: 0, y: 0 };
      const turn = shifts?.turns.get(number);
      const points = turn ?? link.points.map((at, i) => at + (i % 2 ? y + shift.y : x + shift.x));
      const xs = points.filter((_, i) => i % 2 === 0);
      const ys = points.filter((_, i) => i % 2 === 1);
      links.push({
        ...link,
        points,
        turns: turn !== undefined,
        left: Math.min(...xs),
        right: Math.max(...xs),
        top: Math.min(...ys),
        bottom: Math.max(...ys),
      });
    });
  };
  put(root, arrangement, 0, 0, 0);
  return {
    placed,
    links,
    width: columns.width,
    height: columns.height,
    byId: new Map(placed.map((one) => [one.item.id, one])),
  };
}
