// What colours mean: kinds of operators, or how much of something a layer has.

import type { Model, Overlay } from "./document";
import type { Block, Item, Leaf, Tree } from "./tree";
import { leavesOf } from "./tree";

export interface Theme {
  readonly paper: string;
  readonly card: string;
  readonly ink: string;
  readonly soft: string;
  readonly line: string;
  readonly edge: string;
  readonly accent: string;
  readonly dark: boolean;
}

export const LIGHT: Theme = {
  paper: "#f6f7f9",
  card: "#ffffff",
  ink: "#1c2330",
  soft: "#5c6675",
  line: "#d5dae1",
  edge: "#a3adba",
  accent: "#2563eb",
  dark: false,
};
export const DARK: Theme = {
  paper: "#12161c",
  card: "#1b212a",
  ink: "#e6e9ee",
  soft: "#9aa5b5",
  line: "#343d4b",
  edge: "#556173",
  accent: "#6ea0ff",
  dark: true,
};

/** Kinds in the order of the legend, their names and colours. */
const KINDS: readonly (readonly [string, string, string])[] = [
  ["product", "products", "#3b76e1"],
  ["norm", "norms", "#0f9f9a"],
  ["activation", "activations", "#34a853"],
  ["elementwise", "arithmetic", "#86a81e"],
  ["reduce", "reductions", "#e08a1e"],
  ["move", "moves", "#8b95a5"],
  ["index", "indexing", "#9a63d8"],
  ["quantize", "quantization", "#d8549b"],
  ["control", "control", "#c2532d"],
  ["host", "in numpy", "#b83a3a"],
  ["source", "constants", "#a08a6a"],
  ["folded", "folded away", "#b4bac4"],
  ["input", "inputs", "#40495a"],
  ["output", "outputs", "#40495a"],
];
const BY_KIND = new Map(KINDS.map(([kind, , colour]) => [kind, colour]));
const UNKNOWN = "#8b95a5";
const COLD: Rgb = [244, 214, 140];
const HOT: Rgb = [205, 38, 38];

const WHITE: Rgb = [255, 255, 255];
const SHADE: Rgb = [30, 50, 90];

type Rgb = readonly [number, number, number];

export interface LegendRow {
  readonly kind: string;
  readonly name: string;
  readonly colour: string;
  readonly count: number;
}

export function legendOf(leaves: Leaf[]): LegendRow[] {
  const counts = new Map<string, number>();
  for (const { node } of leaves) counts.set(node.kind, (counts.get(node.kind) ?? 0) + 1);
  const rows = KINDS.filter(([kind]) => counts.has(kind)).map(([kind, name, colour]) => ({
    kind,
    name,
    colour,
    count: counts.get(kind)!,
  }));
  for (const [kind, number] of counts) {
    if (!BY_KIND.has(kind)) rows.push({ kind, name: kind, colour: UNKNOWN, count: number });
  }
  return rows;
}

export function colourOfKind(kind: string): string {
  return BY_KIND.get(kind) ?? UNKNOWN;
}

function rgb(hex: string): Rgb {
  const all = parseInt(hex.slice(1), 16);
  return [all >> 16, (all >> 8) & 255, all & 255];
}

function mixed(a: Rgb, b: Rgb, share: number): string {
  const part = a.map((x, i) => Math.round(x + (b[i]! - x) * share));
  return `rgb(${part.join()})`;
}

/** What is behind boxes, the darker (or lighter) the deeper the block they are in. */
export function ground(theme: Theme, depth: number): string {
  const shade = theme.dark ? WHITE : SHADE;
  return mixed(rgb(theme.paper), shade, 1 - 0.967 ** depth);
}

export interface Paint {
  readonly fill: string;
  readonly line: string;
  readonly ink: string;
  readonly soft: string;
}

const paints = new Map<string, Paint>();

/** A box in a colour that stands back behind its text. */
export function tinted(colour: string, theme: Theme): Paint {
  return remembered(`${theme.dark} ${colour}`, () => ({
    fill: mixed(rgb(theme.card), rgb(colour), theme.dark ? 0.26 : 0.15),
    line: mixed(rgb(theme.card), rgb(colour), theme.dark ? 0.62 : 0.55),
    ink: theme.ink,
    soft: theme.soft,
  }));
}

/** A box in the full colour. */
export function filled(colour: string, theme: Theme): Paint {
  return remembered(`full ${theme.dark} ${colour}`, () => ({
    fill: colour,
    line: colour,
    ink: "#ffffff",
    soft: "#d9dee6",
  }));
}

/** A share of 0 is pale, of 1 red. */
export function heat(share: number, theme: Theme): Paint {
  const step = Math.round(Math.min(Math.max(share, 0), 1) * 40) / 40;
  return remembered(`heat ${theme.dark} ${step}`, () => {
    const cold = theme.dark ? ([74, 66, 48] as const) : COLD;
    const light = !theme.dark && step < 0.6;
    return {
      fill: mixed(cold, HOT, step),
      line: mixed(cold, HOT, Math.min(step + 0.25, 1)),
      ink: light ? "#1c2330" : "#ffffff",
      soft: light ? "#4a4130" : "#f1dcd4",
    };
  });
}

function remembered(key: string, make: () => Paint): Paint {
  let found = paints.get(key);
  if (!found) paints.set(key, (found = make()));
  return found;
}

/** What an overlay says about every item of a stage; items without a number are not in it. */
export interface Reading {
  readonly overlay: Overlay;
  readonly of: Map<Item, number>;
  /** Operators that have one number together: they are one kernel. */
  readonly shared: Set<Item>;
  /** Each number once, by its layer, worst first. */
  readonly ranking: { readonly leaf: Leaf; readonly value: number }[];
  readonly low: number;
  readonly high: number;
  readonly total: number;
}

/** Numbers of one unit add up or do not: seconds and bytes of a block are the sum of its parts'. */
export function adds(overlay: Overlay): boolean {
  return overlay.unit === "s" || overlay.unit === "B";
}

export function read(overlay: Overlay, tree: Tree): Reading | null {
  const given = new Map(overlay.values);
  const of = new Map<Item, number>();
  const together = new Map<number, Leaf[]>();
  for (const leaf of tree.leaves) {
    const index = leaf.node[overlay.by];
    const value = index === null ? undefined : given.get(index);
    if (value === undefined || !Number.isFinite(value)) continue;
    of.set(leaf, value);
    together.set(index!, [...(together.get(index!) ?? []), leaf]);
  }
  if (!together.size) return null;
  const sum = adds(overlay);
  const worse = (a: number, b: number): number => (overlay.bad === "high" ? b - a : a - b);
  const gather = (block: Block): void => {
    const indices = new Map<number, number>();
    for (const leaf of leavesOf(block)) {
      const value = of.get(leaf);
      if (value !== undefined) indices.set(leaf.node[overlay.by]!, value);
    }
    const values = [...indices.values()];
    if (values.length) of.set(block, sum ? values.reduce((a, b) => a + b) : values.sort(worse)[0]!);
  };
  for (const block of tree.blocks.values()) gather(block);
  const ranking = [...together.values()]
    .map((leaves) => leaves.find((leaf) => leaf.node.kind === "product") ?? leaves[0]!)
    .map((leaf) => ({ leaf, value: of.get(leaf)! }))
    .sort((a, b) => worse(a.value, b.value));
  const values = ranking.map((entry) => entry.value);
  return {
    overlay,
    of,
    shared: new Set([...together.values()].filter((leaves) => leaves.length > 1).flat()),
    ranking,
    low: Math.min(...values),
    high: Math.max(...values),
    total: values.reduce((a, b) => a + b),
  };
}

/** 0 for the best value, 1 for the worst. Sums are seen against the whole: what takes a fifth of
 * the time is red, in a block or alone. */
export function badness(reading: Reading, value: number): number {
  const { low, high, total, overlay } = reading;
  if (adds(overlay)) return Math.sqrt(Math.min(value / Math.max(total / 5, 1e-300), 1));
  const share = high > low ? (value - low) / (high - low) : 1;
  return overlay.bad === "high" ? share : 1 - share;
}

export function overlaysAt(model: Model, tree: Tree): Reading[] {
  return model.overlays.map((overlay) => read(overlay, tree)).filter((found) => found !== null);
}

/** A number with its unit, for people. */
export function quantity(value: number, unit: string): string {
  if (unit === "s")
    return scaled(value, [
      [1, "s"],
      [1e-3, "ms"],
      [1e-6, "µs"],
      [1e-9, "ns"],
    ]);
  if (unit === "B")
    return scaled(value, [
      [1e9, "GB"],
      [1e6, "MB"],
      [1e3, "kB"],
      [1, "B"],
    ]);
  if (unit === "FLOP")
    return scaled(value, [
      [1e9, "GFLOP"],
      [1e6, "MFLOP"],
      [1e3, "kFLOP"],
      [1, "FLOP"],
    ]);
  return `${short(value)}${unit ? ` ${unit}` : ""}`;
}

function scaled(value: number, units: [number, string][]): string {
  const [size, name] =
    units.find(([least]) => Math.abs(value) >= least) ?? units[units.length - 1]!;
  return `${short(value / size)} ${name}`;
}

export function short(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}
