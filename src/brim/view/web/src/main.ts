// The page: its parts, what is selected and picked out, and what keys and taps do.

import { type Box, NEAREST, zoomed } from "./camera";
import { DARK, LIGHT, colourOfKind } from "./colours";
import { type Model, readDocument } from "./document";
import { button, make } from "./elements";
import { hands } from "./hands";
import type { Placed } from "./layout";
import { legend } from "./legend";
import { minimap } from "./minimap";
import type { Look } from "./look";
import { panel } from "./panel";
import { screen } from "./screen";
import { find, nameOf, searchBox } from "./search";
import { changeOf, slider } from "./stages";
import { structure, widened } from "./structure";
import { tip } from "./tip";
import { type Block, type Item, leavesOf } from "./tree";
import { across, along } from "./walk";

const PANEL = 340; // CSS pixels, as in page.css
const NARROW = 760;
const WIDE = 900;
const HEADER = 52;

function view(model: Model, root: HTMLElement): void {
  const canvas = make("canvas", { tabindex: "0", role: "application", "aria-label": model.name });
  const aside = make("aside", { "aria-label": "Details", tabindex: "-1" });
  const said = make("p", { class: "said", role: "status" });
  const night = window.matchMedia("(prefers-color-scheme: dark)");
  const shown = structure(model, (source) => nameOf(source, model));
  let overlay: string | null = null;
  let selected: Item | null = null;
  let hovered: Item | null = null;
  let found: Set<Item> | null = null;
  let kind: string | null = null;
  let informed = window.innerWidth >= 1100; // about the model, while nothing is selected
  let look: Look;

  // --- drawing and layout ----------------------------------------------------------------------

  const restyle = (): void => {
    const leaves = shown.tree.leaves;
    const ofKind = kind === null ? null : widened(leaves.filter((leaf) => leaf.node.kind === kind));
    look = {
      theme: night.matches ? DARK : LIGHT,
      tree: shown.tree,
      reading: shown.readings.find((one) => one.overlay.name === overlay) ?? null,
      selected,
      hovered,
      picked: found ?? ofKind,
      fresh: shown.fresh,
      title: shown.title,
      hint: shown.hint,
      thumb: shown.thumb,
    };
    sight.redraw();
  };
  const recolour = (): void => {
    restyle();
    map.draw(sight.picture, look);
  };
  const free = (): Box => {
    const { clientWidth, clientHeight } = canvas;
    const narrow = clientWidth < NARROW;
    const beside = aside.hidden || narrow ? 0 : PANEL;
    const below = aside.hidden || !narrow ? foot.offsetHeight : aside.offsetHeight;
    // where there is room enough, nothing stands behind the legend
    const legend = clientWidth - beside >= WIDE ? key.element.offsetWidth + 12 : 0;
    const width = clientWidth - beside - legend;
    const height = clientHeight - HEADER - below;
    return { x: legend, y: HEADER, width: Math.max(width, 80), height: Math.max(height, 80) };
  };
  /** Lays out again; what `kept` was keeps its place on the screen. */
  const relayout = (kept: { before: Placed; now: Item } | null): void => {
    const picture = shown.layOut(free());
    const now = kept && picture.byId.get(shown.visible(kept.now).id);
    sight.show(picture, kept && now ? { before: kept.before, now } : null);
    recolour();
  };
  const anchor = (): Placed | null => {
    const chosen = selected && sight.picture.byId.get(shown.visible(selected).id);
    return chosen ?? sight.central();
  };
  const showStage = (next: number): void => {
    if (next === shown.stage || next < 0 || next >= model.stages.length) return;
    const before = anchor();
    shown.turnTo(next);
    hovered = null;
    selected = selected && shown.counterpart(selected);
    const now = before && shown.counterpart(before.item);
    restyle();
    search.renew();
    relayout(before && now ? { before, now } : null);
    tell();
  };
  const toggle = (block: Block): void => {
    const before = sight.picture.byId.get(block.id);
    if (!before) return;
    shown.toggle(block);
    if (selected && shown.visible(selected) !== selected) selected = block;
    relayout({ before, now: block });
    tell();
  };
  const all = (open: boolean): void => {
    const before = anchor();
    shown.all(open);
    if (selected) selected = shown.visible(selected);
    relayout(before && { before, now: before.item });
  };

  // --- selection -------------------------------------------------------------------------------

  /** Brings all that is beside the canvas up to date. */
  const tell = (): void => {
    const stage = model.stages[shown.stage]!;
    bar.mark(shown.stage, changeOf(model.stages, shown.stage));
    key.show({ tree: shown.tree, theme: look.theme, overlay, reading: look.reading, kind });
    aside.hidden = !selected && !informed;
    root.classList.toggle("beside", !aside.hidden);
    if (!aside.hidden) {
      const use = {
        model,
        tree: shown.tree,
        stage,
        readings: shown.readings,
        reading: look.reading,
        theme: look.theme,
      };
      const { title, isOpen } = shown;
      aside.replaceChildren(
        ...panel(selected, { ...use, title, isOpen, go, toggle, search: search.ask, close }),
      );
      aside.scrollTop = 0;
    }
    const name = !selected
      ? ""
      : selected.kind === "leaf"
        ? nameOf(selected.node.source, model)
        : shown.hint(selected);
    said.textContent = selected ? `${shown.title(selected)}, ${name}` : "";
    sight.redraw();
  };
  const select = (item: Item | null): void => {
    selected = item;
    restyle();
    tell();
  };
  const close = (): void => {
    if (!selected) informed = false;
    select(null);
    canvas.focus();
  };
  /** Selects an item wherever it is, and brings it into view. */
  const go = (item: Item): void => {
    const opened = shown.reveal(item);
    select(item);
    if (opened) relayout(null);
    const one = sight.picture.byId.get(item.id);
    if (one) sight.visit(one);
  };
  const step = (item: Item | null): void => {
    if (!item) return;
    select(item);
    sight.follow(sight.picture.byId.get(item.id)!);
  };
  const hover = (one: Placed | null, x = 0, y = 0): void => {
    hint.hide();
    canvas.style.cursor = one ? "pointer" : "";
    if ((one?.item ?? null) !== hovered) {
      hovered = one?.item ?? null;
      restyle();
    }
    if (!one || one.open) return;
    const { item } = one;
    if (item.kind === "block") hint.soon([item.name, shown.hint(item)], x, y);
    else {
      const { op, source, outputs } = item.node;
      hint.soon([op, nameOf(source, model), shown.hint(item), outputs.join(", ")], x, y);
    }
  };
  const colours = (name: string | null): void => {
    overlay = name;
    const wanted = model.overlays.find((one) => one.name === name);
    if (wanted && !shown.readings.some((one) => one.overlay === wanted)) {
      // there are no numbers at this stage: go where they are
      const last = model.stages.findLastIndex(({ nodes }) => overlaysOf(nodes, wanted));
      if (last >= 0) showStage(last);
    }
    recolour();
    tell();
  };
  const stand = (name: string | null): void => {
    kind = name;
    recolour();
    tell();
  };

  // --- parts of the page -----------------------------------------------------------------------

  const map = minimap((x, y) => sight.centre(x, y));
  const hint = tip(canvas);
  const search = searchBox({
    search: (query) => find(query, model, shown.tree),
    line: (item) => ({
      title: shown.title(item),
      name: item.kind === "leaf" ? nameOf(item.node.source, model) : shown.hint(item),
      colour: item.kind === "leaf" ? colourOfKind(item.node.kind) : look.theme.soft,
    }),
    picked: (items) => {
      found = items && widened([...items].flatMap((item) => [item, ...leavesOf(item)]));
      recolour();
    },
    go,
  });
  const bar = slider(model, showStage);
  const key = legend(model, { colours, kind: stand });
  const name = button(model.name, "What this model is", () => {
    informed = selected !== null || !informed;
    select(null);
  });
  name.className = "name";
  const zooms = make(
    "div",
    { class: "zooms" },
    button("+", "Nearer  +", () => sight.zoomBy(1.4)),
    button("−", "Farther  −", () => sight.zoomBy(1 / 1.4)),
    button("▢", "All of it  0", () => sight.fit()),
  );
  const foot = make("footer", {}, bar.element);
  root.replaceChildren(
    canvas,
    make("header", {}, make("h1", {}, name), search.element),
    key.element,
    make("div", { class: "corner" }, map.element, zooms),
    foot,
    aside,
    hint.element,
    said,
  );
  const sight = screen(canvas, {
    look: () => look,
    free,
    drawn: (camera) => map.mark(camera, free()),
  });

  hands(canvas, {
    camera: () => sight.camera,
    farthest: () => sight.farthest,
    look: (camera) => {
      hint.hide();
      sight.look(camera);
    },
    point: (x, y) => hover(sight.at(x, y), x, y),
    leave: () => hover(null),
    tap: (x, y, again) => {
      hint.hide();
      const one = sight.at(x, y);
      const { camera } = sight;
      if (one?.item.kind === "block" && (again || sight.onButton(one, x, y))) toggle(one.item);
      else if (!one && again) sight.fly(zoomed(camera, x, y, Math.min(camera.zoom * 1.8, NEAREST)));
      else if (!again) select(one?.item ?? null);
    },
  });

  // --- keys ------------------------------------------------------------------------------------

  const keys: Record<string, () => void> = {
    "/": () => search.focus(),
    "+": () => sight.zoomBy(1.4),
    "=": () => sight.zoomBy(1.4),
    "-": () => sight.zoomBy(1 / 1.4),
    "0": () => sight.fit(),
    "[": () => showStage(shown.stage - 1),
    "]": () => showStage(shown.stage + 1),
    e: () => all(true),
    c: () => all(false),
    o: () => {
      const names = [null, ...model.overlays.map((one) => one.name)];
      colours(names[(names.indexOf(overlay) + 1) % names.length]!);
    },
    Enter: () => selected?.kind === "block" && toggle(selected),
    Escape: () => {
      search.clear();
      if (kind !== null) stand(null);
      close();
    },
  };
  const arrows: Record<string, () => Item | null> = {
    ArrowDown: () => along(selected, 1, sight.picture, shown.tree, shown.isOpen),
    ArrowUp: () => along(selected, -1, sight.picture, shown.tree, shown.isOpen),
    ArrowRight: () => across(selected, 1, sight.picture),
    ArrowLeft: () => across(selected, -1, sight.picture),
  };
  document.addEventListener("keydown", (event) => {
    const element = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing =
      /^(INPUT|SELECT)$/.test(element.tagName) && element.getAttribute("type") !== "range";
    if (typing && event.key !== "Escape") return;
    if (event.key === "Enter" && element.tagName === "BUTTON") return;
    const own = aside.contains(element) || element.tagName === "INPUT"; // has its arrows itself
    const arrow = own ? undefined : arrows[event.key];
    if (!keys[event.key] && !arrow) return;
    event.preventDefault();
    if (arrow) step(arrow());
    else keys[event.key]!();
  });
  night.addEventListener("change", () => {
    recolour();
    tell();
  });

  // --- the first view --------------------------------------------------------------------------

  restyle();
  tell();
  shown.openAtFirst(free());
  relayout(null);
  let untouched = true;
  for (const event of ["pointerdown", "wheel", "keydown"]) {
    document.addEventListener(event, () => (untouched = false), { capture: true, passive: true });
  }
  new ResizeObserver(() => {
    if (untouched) sight.start();
    sight.redraw();
  }).observe(canvas);
  sight.start();
  requestAnimationFrame(() => root.removeAttribute("aria-busy"));
}

function overlaysOf(
  nodes: Model["stages"][0]["nodes"],
  { by, values }: Model["overlays"][0],
): boolean {
  const indices = new Set(values.map(([index]) => index));
  return nodes.some((node) => node[by] !== null && indices.has(node[by]));
}

const root = document.getElementById("view")!;
readDocument(document.getElementById("document") as HTMLTemplateElement)
  .then((model) => view(model, root))
  .catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    root.removeAttribute("aria-busy");
    root.replaceChildren(
      make("p", { class: "failed", role: "alert" }, `This page cannot be shown: ${reason}`),
    );
  });
