// What the colours mean, and which they are.

import { type Reading, type Theme, adds, heat, legendOf, quantity } from "./colours";
import type { Model } from "./document";
import { make } from "./elements";
import type { Tree } from "./tree";

export interface Legend {
  readonly element: HTMLElement;
  show(now: LegendNow): void;
}

export interface LegendNow {
  readonly tree: Tree;
  readonly theme: Theme;
  /** The overlay that colours; null: kinds do. */
  readonly overlay: string | null;
  /** What it says of this stage; null: nothing. */
  readonly reading: Reading | null;
  readonly kind: string | null;
}

export interface LegendUse {
  /** Colours by an overlay; null: by kind. */
  colours(overlay: string | null): void;
  /** Only operators of this kind stand out; null: all. */
  kind(kind: string | null): void;
}

export function legend(model: Model, use: LegendUse): Legend {
  const choice = make(
    "select",
    { "aria-label": "Colours" },
    make("option", { value: "" }, "kinds of operators"),
    ...model.overlays.map(({ name, title }) => make("option", { value: name }, title)),
  );
  choice.addEventListener("change", () => use.colours(choice.value || null));
  const rows = make("div", { class: "rows" });
  const element = make("div", { class: "colours" }, model.overlays.length ? choice : null, rows);
  const show = ({ tree, theme, overlay, reading, kind }: LegendNow): void => {
    choice.value = overlay ?? "";
    const focused = [...rows.children].indexOf(document.activeElement!);
    if (reading) rows.replaceChildren(scale(reading, theme));
    else if (overlay === null) rows.replaceChildren(...kinds(tree, kind));
    else rows.replaceChildren(make("p", { class: "note" }, "no numbers at this stage"));
    if (focused >= 0) (rows.children[focused] as HTMLElement | undefined)?.focus();
  };
  const kinds = (tree: Tree, chosen: string | null): HTMLElement[] =>
    legendOf(tree.leaves).map((row) => {
      const dot = make("i");
      dot.style.background = row.colour;
      const element = make(
        "button",
        { type: "button", "aria-pressed": String(row.kind === chosen) },
        dot,
        row.name,
        make("span", {}, row.count.toLocaleString("en")),
      );
      element.addEventListener("click", () => use.kind(row.kind === chosen ? null : row.kind));
      return element;
    });
  return { element, show };
}

function scale({ overlay, low, high, total }: Reading, theme: Theme): HTMLElement {
  const sums = adds(overlay);
  const steps = Array.from({ length: 9 }, (_, i) => heat(i / 8, theme).fill);
  const bar = make("div", { class: "scale" });
  bar.style.background = `linear-gradient(to right, ${steps.join()})`;
  const [first, last] = sums ? [0, total / 5] : overlay.bad === "high" ? [low, high] : [high, low];
  return make(
    "div",
    {},
    bar,
    make(
      "p",
      { class: "ends" },
      make("span", {}, quantity(first, overlay.unit)),
      make("span", {}, (sums ? "≥ " : "") + quantity(last, overlay.unit)),
    ),
  );
}
