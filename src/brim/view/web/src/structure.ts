// What of a model is shown: which stage, which blocks are open, where everything stands.

import { breaksFor } from "./columns";
import { type Reading, overlaysAt } from "./colours";
import type { Model } from "./document";
import { type Arrangement, type Picture, arrange, pictureOf } from "./layout";
import { type Size, boxOf, count, lastPart, within } from "./measures";
import { type Block, type Item, type Tree, depth, treeOf } from "./tree";
import { visible } from "./walk";

const FEW = 200; // operators; a closed block shows all that it holds, if that is not more

const CLEAR = 0.6; // zoom at which the first view may show all that is open

export interface Structure {
  readonly tree: Tree;
  readonly stage: number;
  /** What overlays say about this stage. */
  readonly readings: Reading[];
  /** Operators that the stage before did not have, and the blocks they are in; none where most
   * are new. */
  readonly fresh: Set<Item>;
  turnTo(stage: number): void;
  isOpen(block: Block): boolean;
  toggle(block: Block): void;
  all(open: boolean): void;
  /** Opens what an item is in; whether anything was closed. */
  reveal(item: Item): boolean;
  /** The item itself, or the closed block that hides it. */
  visible(item: Item): Item;
  /** The same thing in the stage of now, or what came of it. */
  counterpart(item: Item): Item | null;
  title(item: Item): string;
  hint(item: Item): string;
  /** What is in a closed block. */
  thumb(block: Block): Arrangement;
  /** `view`: the room there is, for the choice of columns. */
  layOut(view: Size): Picture;
  /** Opens as many levels of blocks as can be seen clearly at once. */
  openAtFirst(view: Size): void;
}

export function structure(model: Model, nameOf: (source: number | null) => string): Structure {
  const trees = new Map<unknown, Tree>();
  const open = new Set<number>();
  const thumbs = new Map<Block, Arrangement>();
  const breaks: { of: Tree | null; ids: Set<string> } = { of: null, ids: new Set() };
  let stage = 0;
  let tree: Tree;
  let fresh: Set<Item>;
  let readings: Reading[];

  const turnTo = (next: number): void => {
    stage = next;
    const { nodes, same } = model.stages[stage]!;
    tree = trees.get(nodes) ?? treeOf(model, nodes);
    trees.set(nodes, tree);
    readings = overlaysAt(model, tree);
    const known = new Set(model.stages[stage - 1]?.nodes.map((node) => node.key));
    const come = tree.leaves.filter((leaf) => !known.has(leaf.node.key));
    fresh = same === null && come.length <= tree.leaves.length / 2 ? widened(come) : new Set();
  };
  const isOpen = (block: Block): boolean => block.index !== null && open.has(block.index);
  const title = (item: Item): string => {
    if (item.kind === "block")
      return within(item.name, item.parent?.parent ? item.parent.name : "");
    const { op, kind, source } = item.node;
    return kind === "input" || kind === "output" ? lastPart(nameOf(source)) || op : op;
  };
  const hint = (item: Item): string => {
    if (item.kind === "block") return count(item.leaves, "operator");
    const text = item.node.hint ?? "";
    return text === title(item) ? "" : text;
  };
  const size = (item: Item): Size => {
    const numbered = item.kind === "leaf" && readings.some((reading) => reading.of.has(item));
    return boxOf(item, title(item), hint(item), numbered);
  };
  const isIn = (block: number | null, outer: number): boolean =>
    block !== null && (block === outer || isIn(model.blocks[block]!.parent, outer));

  /** Breaks stay as long as they can: the eye knows what is in which column. */
  const columns = (arrangement: Arrangement, view: Size): Set<string> => {
    const ids = new Set(tree.root.items.map((item) => item.id));
    const gone = breaks.of !== tree && [...breaks.ids].some((id) => !ids.has(id));
    if (!breaks.of || gone) breaks.ids = breaksFor(tree.root, arrangement, view);
    breaks.of = tree;
    return breaks.ids;
  };

  const layOut = (view: Size): Picture => {
    const arrangement = arrange(tree.root, isOpen, size, tree);
    return pictureOf(tree.root, arrangement, columns(arrangement, view));
  };

  turnTo(0);
  return {
    get tree() {
      return tree;
    },
    get stage() {
      return stage;
    },
    get readings() {
      return readings;
    },
    get fresh() {
      return fresh;
    },
    turnTo,
    isOpen,
    title,
    hint,
    toggle: (block) => {
      if (block.index !== null && !open.delete(block.index)) open.add(block.index);
    },
    all: (wanted) => {
      open.clear();
      if (wanted) for (const index of tree.blocks.keys()) open.add(index);
      breaks.of = null;
    },
    reveal: (item) => {
      const before = open.size;
      for (let up = item.parent; up?.parent; up = up.parent) open.add(up.index!);
      return open.size > before;
    },
    visible: (item) => visible(item, isOpen),
    counterpart: (item) => {
      const { key, source, block } =
        item.kind === "leaf" ? item.node : { key: null, source: null, block: item.index };
      const same = key === null ? undefined : tree.byKey.get(key);
      if (same) return same;
      const of = source === null ? null : tree.leaves.find((leaf) => leaf.node.source === source);
      if (of) return of;
      for (let up = block; up !== null; up = model.blocks[up]!.parent) {
        const found = tree.blocks.get(up) ?? tree.leaves.find((leaf) => isIn(leaf.node.block, up));
        if (found) return found;
      }
      return null;
    },
    thumb: (block) => {
      let inside = thumbs.get(block);
      if (!inside) {
        inside = arrange(block, () => block.leaves <= FEW, size, tree);
        thumbs.set(block, inside);
      }
      return inside;
    },
    layOut,
    openAtFirst: (view) => {
      for (let level = 1; ; level++) {
        const next = [...tree.blocks.values()].filter((block) => depth(block) === level);
        if (!next.length) return;
        for (const block of next) open.add(block.index!);
        breaks.of = null;
        const { width, height } = layOut(view);
        if (Math.min(view.width / width, view.height / height) >= CLEAR) continue;
        for (const block of next) open.delete(block.index!);
        breaks.of = null;
        return;
      }
    },
  };
}

/** The items and all that they are in. */
export function widened(items: Iterable<Item>): Set<Item> {
  const all = new Set<Item>();
  for (const item of items) for (let up: Item | null = item; up; up = up.parent) all.add(up);
  return all;
}
