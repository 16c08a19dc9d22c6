// From item to item, as the arrow keys go.

import type { Picture, Placed } from "./layout";
import { type Block, type Item, type Tree, contains } from "./tree";

/** The item itself, or the outermost closed block that hides it. */
export function visible(item: Item, isOpen: (block: Block) => boolean): Item {
  let shown = item;
  for (let up = item.parent; up?.parent; up = up.parent) if (!isOpen(up)) shown = up;
  return shown;
}

/** What reads the selected item (way 1) or what it reads (-1): the nearest such. Without a
 * selection, the first item. */
export function along(
  selected: Item | null,
  way: 1 | -1,
  picture: Picture,
  tree: Tree,
  isOpen: (block: Block) => boolean,
): Item | null {
  const here = selected && picture.byId.get(selected.id);
  if (!selected || !here) return picture.placed.find((one) => !one.open)?.item ?? null;
  const others = new Set<Item>();
  for (const number of way > 0 ? readers(selected, tree) : read(selected, tree)) {
    const leaf = tree.leaves[number]!;
    if (!contains(selected, leaf)) others.add(visible(leaf, isOpen));
  }
  return nearest(
    here,
    [...others].map((item) => picture.byId.get(item.id)!),
  );
}

function readers(item: Item, tree: Tree): number[] {
  if (item.kind === "leaf")
    return item.node.outputs.flatMap((_, port) => tree.users[tree.first[item.number]! + port]!);
  return item.edges.filter((edge) => !edge.to).flatMap((edge) => tree.users[edge.value]!);
}

function read(item: Item, tree: Tree): number[] {
  if (item.kind === "leaf") return item.node.inputs.map(([from]) => from);
  return item.edges
    .filter((edge) => !edge.from && edge.value >= 0)
    .map((edge) => tree.values[edge.value]!.node);
}

/** The neighbour to the right (1) or left (-1), on about the same height. */
export function across(selected: Item | null, way: 1 | -1, picture: Picture): Item | null {
  const here = selected && picture.byId.get(selected.id);
  if (!here) return null;
  const beside = picture.placed.filter(
    (one) =>
      !one.open &&
      one !== here &&
      one.y < here.y + here.height &&
      one.y + one.height > here.y &&
      way * (one.x + one.width / 2 - here.x - here.width / 2) > 0,
  );
  return nearest(here, beside);
}

function nearest(here: Placed, others: Placed[]): Item | null {
  let best: Item | null = null;
  let least = Infinity;
  for (const one of others) {
    const away = Math.hypot(one.x + one.width / 2 - here.x - here.width / 2, one.y - here.y);
    if (away < least) [best, least] = [one.item, away];
  }
  return best;
}
