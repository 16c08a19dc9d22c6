// What is known of the model, of a block, of an operator: the panel at the side.

import {
  type Reading,
  badness,
  colourOfKind,
  heat,
  quantity,
  short,
  type Theme,
  adds,
} from "./colours";
import type { Kernel, Model, Stage, Weight } from "./document";
import { button, histogram, make, meter } from "./elements";
import { nameOf } from "./search";
import type { Block, Item, Leaf, Tree } from "./tree";
import { contains, leavesOf } from "./tree";

export interface PanelUse {
  readonly model: Model;
  readonly tree: Tree;
  readonly stage: Stage;
  readonly readings: Reading[];
  readonly reading: Reading | null;
  readonly theme: Theme;
  readonly title: (item: Item) => string;
  isOpen(block: Block): boolean;
  go(item: Item): void;
  toggle(block: Block): void;
  search(query: string): void;
  close(): void;
}

const LISTED = 12;

export function panel(item: Item | null, use: PanelUse): HTMLElement[] {
  const parts =
    item === null
      ? overview(use)
      : item.kind === "leaf"
        ? operator(item, use)
        : blockPart(item, use);
  const close = button("×", "Close  Esc", use.close);
  close.className = "close";
  return [close, ...parts];
}

function section(title: string, ...parts: (HTMLElement | string | null)[]): HTMLElement {
  return make("section", {}, make("h3", {}, title), ...parts);
}

function pairs(rows: readonly (readonly [string, string | HTMLElement])[]): HTMLElement {
  return make(
    "dl",
    {},
    ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

function overview(use: PanelUse): HTMLElement[] {
  const { model, tree, reading } = use;
  const counts = new Map<string, { number: number; kind: string }>();
  for (const { node } of tree.leaves) {
    if (node.kind === "input" || node.kind === "output") continue;
    const entry = counts.get(node.op) ?? { number: 0, kind: node.kind };
    entry.number++;
    counts.set(node.op, entry);
  }
  const sorted = [...counts].sort((a, b) => b[1].number - a[1].number);
  const most = sorted[0]?.[1].number ?? 1;
  const listed = sorted.length > LISTED + 1 ? LISTED : sorted.length;
  const bars = sorted
    .slice(0, listed)
    .map(([op, { number, kind }]) =>
      row(op, String(number), meter(number / most, colourOfKind(kind)), () => use.search(op)),
    );
  const rest = sorted.slice(listed).reduce((sum, [, { number }]) => sum + number, 0);
  return [
    make("h2", {}, model.name),
    pairs(model.facts),
    reading ? ranking(reading, use) : null,
    section(
      `Operators of “${use.stage.title}”`,
      use.stage.why ? make("p", { class: "note" }, use.stage.why) : null,
      ...bars,
      rest
        ? make("p", { class: "note" }, `and ${rest} of ${sorted.length - listed} other kinds`)
        : null,
    ),
    make(
      "details",
      { class: "keys" },
      make("summary", {}, "Keys"),
      pairs([
        ["/", "search; Enter: next"],
        ["↑ ↓ ← →", "along the graph"],
        ["Enter", "open or close a block"],
        ["e c", "open, close all"],
        ["[ ]", "stage before, after"],
        ["o", "next colours"],
        ["+ − 0", "nearer, farther, all"],
        ["Esc", "back to the model"],
        ["wheel", "moves; with Ctrl: zooms"],
      ]),
    ),
  ].filter((part) => part !== null);
}

function row(
  title: string,
  value: string,
  bar: HTMLElement,
  act: () => void,
  name = "",
): HTMLElement {
  const element = make(
    "button",
    { type: "button", class: "row" },
    make("b", {}, title),
    make("span", { class: "value" }, value),
    bar,
    name ? make("span", { class: "name" }, name) : null,
  );
  element.addEventListener("click", act);
  return element;
}

function ranking(reading: Reading, use: PanelUse): HTMLElement {
  const { overlay, total } = reading;
  const rows = reading.ranking.slice(0, LISTED).map(({ leaf, value }) => {
    const share = adds(overlay) ? ` · ${((100 * value) / total).toFixed(1)}%` : "";
    const worst = reading.ranking[0]!.value;
    const length = adds(overlay) ? value / worst : badness(reading, value);
    return row(
      use.title(leaf),
      quantity(value, overlay.unit) + share,
      meter(length, heat(badness(reading, value), use.theme).line),
      () => use.go(leaf),
      nameOf(leaf.node.source, use.model),
    );
  });
  const title = adds(overlay)
    ? `${overlay.title}, ${quantity(total, overlay.unit)} in all`
    : overlay.title;
  return section(title, ...rows);
}

function link(text: string, act: () => void): HTMLButtonElement {
  const element = make("button", { type: "button", class: "link" }, text);
  element.addEventListener("click", act);
  return element;
}

/** The blocks around an item, outermost first, each a way to it. */
function path(item: Item, use: PanelUse): HTMLElement | null {
  const above: Block[] = [];
  for (let up = item.parent; up?.parent; up = up.parent) above.unshift(up);
  if (!above.length) return null;
  return make(
    "p",
    { class: "path" },
    ...above.flatMap((block, i) => [i ? " › " : null, link(use.title(block), () => use.go(block))]),
  );
}

function numbers(item: Item, use: PanelUse): (readonly [string, string])[] {
  return use.readings.flatMap((reading) => {
    const value = reading.of.get(item);
    if (value === undefined) return [];
    const share = adds(reading.overlay) ? `, ${((100 * value) / reading.total).toFixed(1)}%` : "";
    const fused = reading.shared.has(item) ? ", of all that is fused with it" : "";
    const text = quantity(value, reading.overlay.unit) + share + fused;
    return [[reading.overlay.title, text] as const];
  });
}

function blockPart(block: Block, use: PanelUse): HTMLElement[] {
  const { model, tree } = use;
  const inside = leavesOf(block);
  const ops = new Map<string, number>();
  for (const { node } of inside) ops.set(node.op, (ops.get(node.op) ?? 0) + 1);
  const alike = block.index === null ? null : model.blocks[block.index]!.alike;
  const twins =
    alike === null
      ? []
      : [...tree.blocks.values()].filter(
          (other) => other !== block && model.blocks[other.index!]!.alike === alike,
        );
  const crossing = (values: number[]): HTMLElement =>
    make(
      "ul",
      {},
      ...values.map((value) => {
        const { node, type } = tree.values[value]!;
        const leaf = tree.leaves[node]!;
        return make(
          "li",
          {},
          link(use.title(leaf), () => use.go(leaf)),
          " ",
          make("code", {}, type),
        );
      }),
    );
  const entering = [
    ...new Set(
      block.edges.filter((edge) => !edge.from && edge.value >= 0).map((edge) => edge.value),
    ),
  ];
  const leaving = [...new Set(block.edges.filter((edge) => !edge.to).map((edge) => edge.value))];
  const opener = button(use.isOpen(block) ? "Close block" : "Open block", "Enter", () =>
    use.toggle(block),
  );
  opener.className = "opener";
  return [
    make("h2", {}, use.title(block)),
    path(block, use),
    block.name === use.title(block) ? null : make("p", { class: "source" }, block.name),
    opener,
    pairs([["operators", inside.length.toLocaleString("en")], ...numbers(block, use)]),
    section(
      "Made of",
      pairs(
        [...ops]
          .sort((a, b) => b[1] - a[1])
          .slice(0, LISTED)
          .map(([op, number]) => [op, String(number)] as const),
      ),
    ),
    twins.length
      ? section(
          "Built alike",
          make(
            "p",
            {},
            ...twins
              .slice(0, 24)
              .flatMap((twin, i) => [i ? ", " : null, link(use.title(twin), () => use.go(twin))]),
          ),
        )
      : null,
    entering.length ? section("Reads", crossing(entering)) : null,
    leaving.length ? section("Gives", crossing(leaving)) : null,
  ].filter((part) => part !== null);
}

function operator(leaf: Leaf, use: PanelUse): HTMLElement[] {
  const { model, tree } = use;
  const { node, number } = leaf;
  const source = nameOf(node.source, model);
  const inputs = node.inputs.map(([from, port]) => {
    const other = tree.leaves[from]!;
    return make(
      "li",
      {},
      link(use.title(other), () => use.go(other)),
      " ",
      make("code", {}, other.node.outputs[port]!),
      name(other, model),
    );
  });
  const outputs = node.outputs.map((type, port) => {
    const users = tree.users[tree.first[number]! + port]!.map((user) => tree.leaves[user]!);
    const shown = users.slice(0, 8);
    return make(
      "li",
      {},
      make("code", {}, type),
      users.length ? " to " : null,
      ...shown.flatMap((user, i) => [i ? ", " : null, link(use.title(user), () => use.go(user))]),
      users.length > shown.length ? ` and ${users.length - shown.length} more` : null,
    );
  });
  const kernel = node.kernel === null ? undefined : model.kernels[node.kernel];
  const dot = make("i", { class: "dot" });
  dot.style.background = colourOfKind(node.kind);
  const attrs = Object.entries(node.attrs);
  return [
    make("h2", {}, dot, node.op),
    path(leaf, use),
    source ? make("p", { class: "source" }, source) : null,
    attrs.length ? pairs(attrs) : null,
    ...(numbers(leaf, use).length ? [pairs(numbers(leaf, use))] : []),
    inputs.length ? section("Reads", make("ul", {}, ...inputs)) : null,
    outputs.length ? section("Gives", make("ul", {}, ...outputs)) : null,
    ...bodies(leaf, use),
    node.weights.length
      ? section("Weights", ...node.weights.map(([, index]) => weight(model.weights[index]!)))
      : null,
    kernel ? kernelPart(kernel, leaf, use) : null,
  ].filter((part) => part !== null);
}

function name(leaf: Leaf, model: Model): HTMLElement | null {
  const text = nameOf(leaf.node.source, model);
  return text ? make("span", { class: "name" }, text) : null;
}

function bodies(leaf: Leaf, use: PanelUse): HTMLElement[] {
  const inner = (leaf.node.body ?? [])
    .map((index) => use.tree.blocks.get(index))
    .filter((block) => block !== undefined);
  if (!inner.length) return [];
  return [
    section(
      "Runs",
      make(
        "p",
        {},
        ...inner.flatMap((block, i) => [
          i ? ", " : null,
          link(use.title(block), () => use.go(block)),
        ]),
      ),
    ),
  ];
}

function weight(found: Weight): HTMLElement {
  const { counts, low, high, mean, zeros, values } = found;
  const figures: string[] = [quantity(found.bytes, "B")];
  if (mean !== null) figures.push(`mean ${short(mean)}`);
  if (zeros !== null && zeros > 0)
    figures.push(`${(100 * zeros).toFixed(zeros < 0.01 ? 2 : 0)}% zeros`);
  if (found.sampled) figures.push("from a sample");
  return make(
    "div",
    { class: "weight" },
    make("p", {}, make("b", {}, found.name), " ", make("code", {}, found.type)),
    values ? make("p", { class: "values" }, make("code", {}, values.join(" "))) : null,
    counts && !values
      ? make(
          "div",
          {},
          histogram(counts),
          make(
            "p",
            { class: "ends" },
            make("span", {}, low === null ? "" : short(low)),
            make("span", {}, high === null ? "" : short(high)),
          ),
        )
      : null,
    make("p", { class: "note" }, figures.join(" · ")),
  );
}

function kernelPart(kernel: Kernel, leaf: Leaf, use: PanelUse): HTMLElement {
  const rows: [string, string][] = [];
  if (kernel.measured !== null) rows.push(["measured", quantity(kernel.measured, "s")]);
  if (kernel.predicted !== null) rows.push(["predicted", quantity(kernel.predicted, "s")]);
  if (kernel.flops) rows.push(["arithmetic", quantity(kernel.flops, "FLOP")]);
  if (kernel.bytes) rows.push(["memory", quantity(kernel.bytes, "B")]);
  if (kernel.times > 1) rows.push(["runs", `${kernel.times} times`]);
  const together = use.tree.leaves.filter(
    (other) => other !== leaf && other.node.kernel === leaf.node.kernel && !contains(leaf, other),
  );
  return section(
    "Kernel",
    make("p", { class: "ops" }, kernel.ops.join(" · ")),
    pairs(rows),
    kernel.schedule ? make("pre", {}, kernel.schedule) : null,
    together.length
      ? make(
          "p",
          {},
          "Together with ",
          ...together
            .slice(0, 12)
            .flatMap((other, i) => [i ? ", " : null, link(use.title(other), () => use.go(other))]),
        )
      : null,
  );
}
