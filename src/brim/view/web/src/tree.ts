// One stage as a tree of blocks. Each block holds its items and the edges between them, so that it
// can be laid out without looking at anything else.

import type { Model, Operator } from "./document";

export interface Leaf {
  readonly kind: "leaf";
  readonly id: string;
  readonly parent: Block;
  readonly node: Operator;
  readonly number: number;
}

export interface Block {
  readonly kind: "block";
  readonly id: string;
  readonly parent: Block | null;
  readonly index: number | null;
  readonly name: string;
  readonly items: Item[];
  readonly edges: Edge[];
  leaves: number;
}

export type Item = Leaf | Block;

/** A value on its way from one item of a block to another. No `from`: it enters the block through
 * its upper border; no `to`: it leaves through the lower one. A value of -1 is no value: a control
 * operator owns the block it leads to. */
export interface Edge {
  readonly from: Item | null;
  readonly to: Item | null;
  readonly value: number;
}

export interface Value {
  readonly node: number;
  readonly port: number;
  readonly type: string;
}

export interface Tree {
  readonly root: Block;
  readonly leaves: Leaf[];
  readonly blocks: Map<number, Block>;
  readonly values: Value[];
  /** The number of a node's first value; those of its other outputs follow. */
  readonly first: number[];
  /** Who reads each value. */
  readonly users: number[][];
  readonly byKey: Map<number, Leaf>;
}

const OWNED = -1;

export function treeOf(model: Model, nodes: Operator[]): Tree {
  const root: Block = {
    kind: "block",
    id: "root",
    parent: null,
    index: null,
    name: model.name,
    items: [],
    edges: [],
    leaves: 0,
  };
  const blocks = new Map<number, Block>();
  const worth = worthwhile(model, nodes);
  const block = (index: number | null): Block => {
    if (index === null) return root;
    if (!worth.has(index)) return block(model.blocks[index]!.parent);
    let found = blocks.get(index);
    if (!found) {
      const { name, parent } = model.blocks[index]!;
      const above = block(parent);
      found = {
        kind: "block",
        id: `b${index}`,
        parent: above,
        index,
        name,
        items: [],
        edges: [],
        leaves: 0,
      };
      above.items.push(found);
      blocks.set(index, found);
    }
    return found;
  };
  const leaves: Leaf[] = [];
  const values: Value[] = [];
  const first: number[] = [];
  const byKey = new Map<number, Leaf>();
  nodes.forEach((node, number) => {
    const parent = block(node.block);
    const leaf: Leaf = { kind: "leaf", id: `n${node.key}`, parent, node, number };
    parent.items.push(leaf);
    leaves.push(leaf);
    byKey.set(node.key, leaf);
    first.push(values.length);
    node.outputs.forEach((type, port) => values.push({ node: number, port, type }));
    for (let up: Block | null = parent; up; up = up.parent) up.leaves++;
  });
  const users: number[][] = values.map(() => []);
  const seen = new Set<string>();
  for (const leaf of leaves) {
    for (const [node, port] of leaf.node.inputs) {
      const value = first[node]! + port;
      const readers = users[value]!;
      if (readers[readers.length - 1] === leaf.number) continue;
      readers.push(leaf.number);
      join(leaves[node]!, leaf, value, seen);
    }
    for (const index of leaf.node.body ?? []) {
      const inner = blocks.get(index);
      if (inner && !contains(inner, leaf)) join(leaf, inner, OWNED, seen);
    }
  }
  return { root, leaves, blocks, values, first, users, byKey };
}

/** Blocks that say more than what they hold: not those around one operator or one whole block.
 * What a control operator runs is always a block. */
function worthwhile(model: Model, nodes: Operator[]): Set<number> {
  const held = new Map<number, number>();
  const bodies = new Set(nodes.flatMap((node) => node.body ?? []));
  for (const node of nodes) {
    for (let up = node.block; up !== null; up = model.blocks[up]!.parent) {
      held.set(up, (held.get(up) ?? 0) + 1);
    }
  }
  const worth = new Set<number>();
  for (const [index, number] of held) {
    const { parent } = model.blocks[index]!;
    const more = number > 1 && (parent === null || held.get(parent)! > number);
    if (more || bodies.has(index)) worth.add(index);
  }
  return worth;
}

/** Adds the edge to every block it passes through. */
function join(from: Item, to: Item, value: number, seen: Set<string>): void {
  const add = (block: Block, start: Item | null, end: Item | null): void => {
    const key = `${block.id} ${start?.id} ${end?.id} ${value}`;
    if (seen.has(key)) return;
    seen.add(key);
    block.edges.push({ from: start, to: end, value });
  };
  while (from.parent !== to.parent) {
    if (depth(from) >= depth(to)) {
      add(from.parent!, from, null);
      from = from.parent!;
    } else {
      add(to.parent!, null, to);
      to = to.parent!;
    }
  }
  if (from !== to) add(from.parent!, from, to);
}

export function depth(item: Item): number {
  let found = 0;
  for (let up = item.parent; up; up = up.parent) found++;
  return found;
}

/** Whether the item is the block or somewhere in it. */
export function contains(block: Item, item: Item): boolean {
  for (let up: Item | null = item; up; up = up.parent) if (up === block) return true;
  return false;
}

export function leavesOf(item: Item): Leaf[] {
  return item.kind === "leaf" ? [item] : item.items.flatMap(leavesOf);
}
