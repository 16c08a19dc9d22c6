// Finds layers by words of their operator, name, hint, types and attributes.

import type { Model } from "./document";
import { make } from "./elements";
import type { Item, Leaf, Tree } from "./tree";

export interface Found {
  readonly item: Item;
  readonly score: number;
}

const SHOWN = 60;

/** Items that have every word of the query, best first: operators and blocks named so, then what
 * has the words in its name, then anything else that has them. */
export function find(query: string, model: Model, tree: Tree): Found[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const found: Found[] = [];
  for (const block of tree.blocks.values()) {
    const name = block.name.toLowerCase();
    if (words.every((word) => name.includes(word)))
      found.push({ item: block, score: name === words[0] ? 0 : 1.5 });
  }
  for (const leaf of tree.leaves) {
    let score = 0;
    for (const word of words) score = Math.max(score, scoreOf(word, leaf, model));
    if (score < Infinity) found.push({ item: leaf, score });
  }
  return found.sort((a, b) => a.score - b.score);
}

function scoreOf(word: string, { node }: Leaf, model: Model): number {
  const op = node.op.toLowerCase();
  if (op === word) return 0;
  if (op.startsWith(word)) return 1;
  const name = nameOf(node.source, model).toLowerCase();
  if (name.includes(word) || op.includes(word)) return 2;
  if ((node.hint ?? "").toLowerCase().includes(word)) return 3;
  const rest = [
    ...node.outputs,
    ...Object.entries(node.attrs).flat(),
    ...node.weights.map(([, i]) => model.weights[i]!.name),
  ];
  return rest.some((text) => text.toLowerCase().includes(word)) ? 4 : Infinity;
}

export function nameOf(source: number | null, model: Model): string {
  return source === null ? "" : (model.sources[source] ?? "");
}

export interface SearchBox {
  readonly element: HTMLElement;
  focus(): void;
  /** Searches again, as in another stage. */
  renew(): void;
  clear(): void;
  /** As if somebody had typed it. */
  ask(query: string): void;
}

export interface SearchUse {
  search(query: string): Found[];
  /** What stands in a line of the list. */
  line(item: Item): { title: string; name: string; colour: string };
  /** Items of the current query; null: there is none. */
  picked(items: Set<Item> | null): void;
  go(item: Item): void;
}

export function searchBox(use: SearchUse): SearchBox {
  const input = make("input", {
    type: "search",
    placeholder: "Search layers  /",
    "aria-label": "Search layers",
    role: "combobox",
    "aria-expanded": "false",
    "aria-controls": "found",
    autocomplete: "off",
    spellcheck: "false",
  });
  const list = make("ul", { id: "found", role: "listbox", "aria-label": "Layers found" });
  const note = make("p", { class: "note", role: "status" });
  const drop = make("div", { class: "drop", hidden: "" }, note, list);
  const element = make("div", { class: "search" }, input, drop);
  let results: Found[] = [];
  let chosen = -1;
  let taken = -1; // by Enter; Enter again goes on to the next

  const choose = (index: number): void => {
    chosen = index;
    [...list.children].forEach((row, i) => {
      row.setAttribute("aria-selected", String(i === index));
      if (i === index) row.scrollIntoView({ block: "nearest" });
    });
    if (index >= 0) input.setAttribute("aria-activedescendant", `found-${index}`);
    else input.removeAttribute("aria-activedescendant");
  };
  const show = (visible: boolean): void => {
    drop.hidden = !visible;
    input.setAttribute("aria-expanded", String(visible));
  };
  const renew = (): void => {
    const query = input.value.trim();
    results = use.search(query);
    list.replaceChildren(
      ...results.slice(0, SHOWN).map(({ item }, i) => {
        const { title, name, colour } = use.line(item);
        const dot = make("i");
        dot.style.background = colour;
        const row = make(
          "li",
          { role: "option", id: `found-${i}`, "aria-selected": "false" },
          dot,
          make("b", {}, title),
          make("span", {}, name),
        );
        row.addEventListener("pointerdown", (event) => event.preventDefault());
        row.addEventListener("click", () => take(i));
        return row;
      }),
    );
    const number = results.length;
    note.textContent = number
      ? `${number.toLocaleString("en")} found${number > SHOWN ? `, the first ${SHOWN}:` : ""}`
      : "Nothing has these words.";
    use.picked(query ? new Set(results.map((found) => found.item)) : null);
    choose(-1);
    show(query !== "" && document.activeElement === input);
  };
  const take = (index: number): void => {
    const found = results[index];
    if (!found) return;
    choose(index);
    show(false);
    use.go(found.item);
  };
  const next = (way: number, last: number): number => {
    if (chosen < 0) return 0;
    return chosen === taken ? Math.min(Math.max(chosen + way, 0), last) : chosen;
  };
  const clear = (): void => {
    if (!input.value) return;
    input.value = "";
    renew();
  };
  input.addEventListener("input", renew);
  input.addEventListener("focus", () => show(input.value.trim() !== ""));
  input.addEventListener("blur", () => show(false));
  input.addEventListener("keydown", (event) => {
    const last = Math.min(results.length, SHOWN) - 1;
    if (event.key.startsWith("Arrow")) show(results.length > 0);
    if (event.key === "ArrowDown") choose(Math.min(chosen + 1, last));
    else if (event.key === "ArrowUp") choose(Math.max(chosen - 1, 0));
    else if (event.key === "Enter") take(next(event.shiftKey ? -1 : 1, last));
    else if (event.key === "Escape") {
      clear();
      input.blur();
    } else return;
    taken = event.key === "Enter" ? chosen : -1;
    event.preventDefault();
    event.stopPropagation();
  });
  const ask = (query: string): void => {
    input.value = query;
    input.focus();
    renew();
  };
  return { element, focus: () => input.select(), renew, clear, ask };
}
