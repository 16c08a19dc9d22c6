// The page: what is shown now, and what changes it.

import {
  type Box,
  type Camera,
  between,
  centred,
  farthest,
  fitted,
  held,
  zoomed,
  NEAREST,
} from "./camera";
import { breaksFor } from "./columns";
import { DARK, LIGHT, type Reading, colourOfKind, overlaysAt } from "./colours";
import { type Model, readDocument } from "./document";
import { button, make } from "./elements";
import { hands } from "./hands";
import { type Arrangement, type Picture, type Placed, arrange, pictureOf } from "./layout";
import { legend } from "./legend";
import { HEAD, boxOf, count, lastPart, within } from "./measures";
import { minimap } from "./minimap";
import { type Look, buttonOf, paint } from "./paint";
import { panel } from "./panel";
import { find, nameOf, searchBox } from "./search";
import { changeOf, slider } from "./stages";
import { type Block, type Item, type Tree, treeOf } from "./tree";
import { across, along, visible } from "./walk";

const SMALL_MODEL = 36; // operators; not more of them are shown without closing anything
const FEW = 200; // operators; a closed block shows all that it holds, if that is not more
const READABLE = 0.34; // zoom; a picture that would be smaller starts at its top
const MOVE = 220; // ms
const PANEL = 340; // CSS pixels, as in page.css
const NARROW = 760;

function view(model: Model, root: HTMLElement): void {
  const canvas = make("canvas", { tabindex: "0", role: "application", "aria-label": model.name });
  const pen = canvas.getContext("2d", { alpha: false })!;
  const aside = make("aside", { "aria-label": "Details", tabindex: "-1" });
  const tip = make("div", { class: "tip", "aria-hidden": "true", hidden: "" });
  const said = make("p", { class: "said", role: "status" });
  const night = window.matchMedia("(prefers-color-scheme: dark)");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  const trees = new Map<unknown, Tree>();
  const open = new Set<number>();
  let stage = 0;
  let tree: Tree;
  let readings: Reading[] = [];
  let overlay: string | null = null;
  let picture: Picture;
  let look: Look;
  let camera: Camera = { x: 0, y: 0, zoom: 1 };
  let selected: Item | null = null;
  let hovered: Item | null = null;
  let found: Set<Item> | null = null;
  let kind: string | null = null;
  let informed = window.innerWidth >= 1100;
  let motion: { start: number; from: Map<string, { x: number; y: number }> } | null = null;
  let flight: { start: number; from: Camera; to: Camera } | null = null;
  let waiting = false;
  const breaks: { of: Tree | null; ids: Set<string> } = { of: null, ids: new Set() };

  // --- what is shown -------------------------------------------------------------------------

  const isOpen = (block: Block): boolean => block.index !== null && open.has(block.index);
  const title = (item: Item): string => {
    if (item.kind === "block")
      return within(item.name, item.parent?.parent ? item.parent.name : "");
    const { op, kind: sort, source } = item.node;
    return sort === "input" || sort === "output" ? lastPart(nameOf(source, model)) || op : op;
  };
  const hint = (item: Item): string => {
    if (item.kind === "block") return count(item.leaves, "operator");
    const text = item.node.hint ?? "";
    return text === title(item) ? "" : text;
  };
  const size = (item: Item): { width: number; height: number } =>
    boxOf(item, title(item), hint(item));
  const thumbs = new Map<Block, Arrangement>();
  const thumb = (block: Block): Arrangement | null => {
    let inside = thumbs.get(block);
    if (!inside) {
      inside = arrange(block, () => block.leaves <= FEW, size, tree);
      thumbs.set(block, inside);
    }
    return inside;
  };

  const widened = (items: Iterable<Item>): Set<Item> => {
    const all = new Set<Item>();
    for (const item of items) for (let up: Item | null = item; up; up = up.parent) all.add(up);
    return all;
  };
  const fresh = (): Set<Item> => {
    const before = model.stages[stage - 1];
    if (!before || model.stages[stage]!.same !== null) return new Set();
    const known = new Set(before.nodes.map((node) => node.key));
    const come = tree.leaves.filter((leaf) => !known.has(leaf.node.key));
    return come.length > tree.leaves.length / 2 ? new Set() : widened(come);
  };
  let freshNow = new Set<Item>();
  const restyle = (): void => {
    const reading = readings.find((one) => one.overlay.name === overlay) ?? null;
    const ofKind =
      kind === null ? null : widened(tree.leaves.filter((leaf) => leaf.node.kind === kind));
    look = {
      theme: night.matches ? DARK : LIGHT,
      tree,
      reading,
      selected,
      hovered,
      picked: found ?? ofKind,
      fresh: freshNow,
      title,
      hint,
      thumb,
    };
  };
  const recolour = (): void => {
    restyle();
    map.draw(picture, look);
    redraw();
  };

  const free = (): Box => {
    const { clientWidth, clientHeight } = canvas;
    const beside = !aside.hidden && clientWidth >= NARROW ? PANEL : 0;
    return {
      x: 0,
      y: 52,
      width: Math.max(clientWidth - beside, 80),
      height: Math.max(clientHeight - 52 - foot.offsetHeight, 80),
    };
  };

  // --- drawing ---------------------------------------------------------------------------------

  const redraw = (): void => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(frame);
  };
  const frame = (now: number): void => {
    waiting = false;
    if (flight) {
      const share = eased((now - flight.start) / MOVE);
      camera = between(flight.from, flight.to, share);
      if (share >= 1) flight = null;
      else redraw();
    }
    let shown = picture;
    let share = 1;
    if (motion) {
      share = eased((now - motion.start) / MOVE);
      if (share >= 1) motion = null;
      else {
        const { from } = motion;
        const placed = picture.placed.map((one) => {
          const before = from.get(one.item.id);
          if (!before) return one;
          return {
            ...one,
            x: before.x + (one.x - before.x) * share,
            y: before.y + (one.y - before.y) * share,
          };
        });
        shown = { ...picture, placed };
        redraw();
      }
    }
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const wide = canvas.clientWidth;
    const high = canvas.clientHeight;
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(high * ratio);
    }
    paint(pen, shown, camera, wide, high, ratio, look, share * share);
    map.mark(camera, free());
  };

  const turnTo = (next: Camera, smooth: boolean): void => {
    const from = camera;
    flight = smooth && !still.matches ? { start: performance.now(), from, to: next } : null;
    if (!flight) camera = next;
    redraw();
  };

  // --- layout ----------------------------------------------------------------------------------

  /** The breaks of the stage before, if it had any and all are still there, else new ones. */
  const columnsNow = (arrangement: Arrangement): Set<string> => {
    const ids = new Set(tree.root.items.map((item) => item.id));
    if (!breaks.of || (breaks.of !== tree && [...breaks.ids].some((id) => !ids.has(id)))) {
      breaks.ids = breaksFor(tree.root, arrangement, free());
    }
    breaks.of = tree;
    return breaks.ids;
  };

  /** Lays out again. What `kept` was keeps its place on the screen as what it is now. */
  const relayout = (kept: { before: Placed; now: Item } | null): void => {
    const old: Picture | undefined = picture;
    const arrangement = arrange(tree.root, isOpen, size, tree);
    picture = pictureOf(tree.root, arrangement, columnsNow(arrangement));
    const after = kept && picture.byId.get(visible(kept.now, isOpen).id);
    let dx = 0;
    let dy = 0;
    if (kept && after) {
      const pin = after.open || kept.before.open ? 0 : 0.5;
      dx = after.x + after.width / 2 - kept.before.x - kept.before.width / 2;
      dy = after.y + after.height * pin - kept.before.y - kept.before.height * pin;
      flight = null;
      camera = { ...camera, x: camera.x + dx, y: camera.y + dy };
    }
    motion = null;
    if (old && kept && !still.matches) {
      const from = new Map<string, { x: number; y: number }>();
      for (const one of picture.placed) {
        const before = old.byId.get(one.item.id);
        const parent = one.item.parent!;
        if (before) {
          from.set(one.item.id, {
            x: before.x + (before.width - one.width) / 2 + dx,
            y: before.y + dy,
          });
        } else if (parent.parent && from.has(parent.id)) {
          // out of the block that was closed before
          const around = picture.byId.get(parent.id)!;
          const start = from.get(parent.id)!;
          from.set(one.item.id, {
            x: start.x + (one.x - around.x),
            y: start.y + (one.y - around.y) * 0.6,
          });
        }
      }
      motion = { start: performance.now(), from };
    }
    recolour();
  };

  const showStage = (next: number, first = false): void => {
    if (!first && (next === stage || next < 0 || next >= model.stages.length)) return;
    const anchor = first
      ? null
      : (selected && picture.byId.get(visible(selected, isOpen).id)) || central();
    stage = next;
    const { nodes } = model.stages[stage]!;
    tree = trees.get(nodes) ?? treeOf(model, nodes);
    trees.set(nodes, tree);
    readings = overlaysAt(model, tree);
    freshNow = fresh();
    thumbs.clear();
    hovered = null;
    const again = selected && counterpart(selected);
    const moved = anchor && counterpart(anchor.item);
    selected = again;
    bar.mark(stage, changeOf(model.stages, stage));
    key.show(tree, readings, overlay, kind);
    if (!first) {
      restyle();
      search.renew();
      relayout(anchor && moved ? { before: anchor, now: moved } : null);
      tell();
    }
  };

  /** The same thing in the tree of now, or what came of it. */
  const counterpart = (item: Item): Item | null => {
    if (item.kind === "block")
      return item.index === null ? null : (tree.blocks.get(item.index) ?? null);
    const { key, source, block } = item.node;
    return (
      tree.byKey.get(key) ??
      (source === null ? undefined : tree.leaves.find((leaf) => leaf.node.source === source)) ??
      (block === null ? null : (tree.blocks.get(block) ?? null))
    );
  };

  /** What is nearest to the middle of the view. */
  const central = (): Placed | null => {
    const { x, y, width, height } = free();
    const toX = camera.x + (x + width / 2) / camera.zoom;
    const toY = camera.y + (y + height / 2) / camera.zoom;
    let best: Placed | null = null;
    let least = Infinity;
    for (const one of picture.placed) {
      if (one.open) continue;
      const away = Math.hypot(one.x + one.width / 2 - toX, one.y + one.height / 2 - toY);
      if (away < least) [best, least] = [one, away];
    }
    return best;
  };

  const toggle = (block: Block): void => {
    if (block.index === null) return;
    const before = picture.byId.get(block.id)!;
    if (open.has(block.index)) open.delete(block.index);
    else open.add(block.index);
    if (selected && visible(selected, isOpen) !== selected) selected = block;
    relayout({ before, now: block });
    tell();
  };
  const openAll = (wanted: boolean): void => {
    const before = (selected && picture.byId.get(visible(selected, isOpen).id)) || central();
    open.clear();
    if (wanted) for (const index of tree.blocks.keys()) open.add(index);
    if (selected) selected = visible(selected, isOpen);
    breaks.of = null;
    relayout(before && { before, now: before.item });
  };

  // --- selection -------------------------------------------------------------------------------

  const tell = (): void => {
    const wasHidden = aside.hidden;
    aside.hidden = !selected && !informed;
    if (!aside.hidden) {
      aside.replaceChildren(
        ...panel(selected, {
          model,
          tree,
          stage: model.stages[stage]!,
          readings,
          reading: look.reading,
          theme: look.theme,
          title,
          isOpen,
          go,
          toggle,
          search: search.ask,
          close,
        }),
      );
      if (wasHidden || selected) aside.scrollTop = 0;
    }
    said.textContent = selected ? spoken(selected) : "";
    root.classList.toggle("beside", !aside.hidden);
    redraw();
  };
  const spoken = (item: Item): string => {
    const name = item.kind === "leaf" ? nameOf(item.node.source, model) : hint(item);
    return [title(item), name].filter(Boolean).join(", ");
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
    let changed = false;
    for (let up = item.parent; up?.parent; up = up.parent) {
      if (!open.has(up.index!)) {
        open.add(up.index!);
        changed = true;
      }
    }
    selected = item;
    restyle();
    if (changed) relayout(null);
    tell();
    const one = picture.byId.get(item.id);
    if (one)
      turnTo(
        centred({ ...one, height: Math.min(one.height, 200) }, free(), Math.max(camera.zoom, 0.85)),
        true,
      );
  };

  const at = (x: number, y: number): Placed | null => {
    const toX = camera.x + x / camera.zoom;
    const toY = camera.y + y / camera.zoom;
    const room = 3 / camera.zoom;
    for (let i = picture.placed.length - 1; i >= 0; i--) {
      const one = picture.placed[i]!;
      const inside =
        toX >= one.x - room &&
        toX <= one.x + one.width + room &&
        toY >= one.y - room &&
        toY <= one.y + one.height + room;
      // of an open block only its head is itself
      if (inside && (!one.open || toY <= one.y + Math.max(HEAD, 14 / camera.zoom))) return one;
    }
    return null;
  };
  const onButton = (one: Placed, x: number, y: number): boolean => {
    const { x: toX, y: toY } = buttonOf(one);
    return Math.hypot((toX - camera.x) * camera.zoom - x, (toY - camera.y) * camera.zoom - y) < 13;
  };

  let resting = 0;
  const hover = (one: Placed | null, x = 0, y = 0): void => {
    clearTimeout(resting);
    tip.hidden = true;
    canvas.style.cursor = one ? "pointer" : "";
    if ((one?.item ?? null) !== hovered) {
      hovered = one?.item ?? null;
      restyle();
      redraw();
    }
    if (!one || one.open) return;
    resting = window.setTimeout(() => {
      const { item } = one;
      const lines =
        item.kind === "leaf"
          ? [
              item.node.op,
              nameOf(item.node.source, model),
              item.node.hint ?? "",
              item.node.outputs.join(", "),
            ]
          : [item.name, hint(item)];
      tip.replaceChildren(
        ...lines.filter(Boolean).map((line, i) => make(i ? "span" : "b", {}, line)),
      );
      tip.hidden = false;
      const left = Math.min(x + 14, canvas.clientWidth - tip.offsetWidth - 8);
      const top =
        y + 18 + tip.offsetHeight > canvas.clientHeight ? y - tip.offsetHeight - 8 : y + 18;
      tip.style.transform = `translate(${left}px, ${top}px)`;
    }, 450);
  };

  const fit = (): Camera =>
    fitted({ x: 0, y: 0, width: picture.width, height: picture.height }, free());
  const zoomBy = (factor: number): void => {
    const { x, y, width, height } = free();
    const zoom = Math.min(
      Math.max(
        (flight?.to ?? camera).zoom * factor,
        farthest(picture.width, picture.height, free()),
      ),
      NEAREST,
    );
    turnTo(zoomed(flight?.to ?? camera, x + width / 2, y + height / 2, zoom), true);
  };
  const nextColours = (name: string | null): void => {
    overlay = name;
    const reading = readings.find((one) => one.overlay.name === name);
    if (name !== null && !reading) {
      // numbers of another stage: go where they are
      const wanted = model.overlays.find((one) => one.name === name)!;
      const where = stageOf(model, wanted.by, new Set(wanted.values.map(([index]) => index)));
      if (where !== null) showStage(where);
    }
    key.show(tree, readings, overlay, kind);
    recolour();
    tell();
  };

  // --- parts of the page -----------------------------------------------------------------------

  const map = minimap((x, y) =>
    turnTo(centred({ x, y, width: 0, height: 0 }, free(), camera.zoom), false),
  );
  const search = searchBox({
    search: (query) => find(query, model, tree),
    line: (item) => ({
      title: title(item),
      name: item.kind === "leaf" ? nameOf(item.node.source, model) : hint(item),
      colour: item.kind === "leaf" ? colourOfKind(item.node.kind) : look.theme.soft,
    }),
    picked: (items) => {
      found = items && widened(items);
      recolour();
    },
    go,
  });
  const bar = slider(model, showStage);
  const key = legend(model, {
    colours: nextColours,
    kind: (name) => {
      kind = name;
      key.show(tree, readings, overlay, kind);
      recolour();
    },
  });
  const name = button(model.name, "What this model is", () => {
    informed = selected !== null || !informed;
    select(null);
  });
  name.className = "name";
  const zooms = make(
    "div",
    { class: "zooms" },
    button("+", "Nearer  +", () => zoomBy(1.4)),
    button("−", "Farther  −", () => zoomBy(1 / 1.4)),
    button("▢", "All of it  0", () => turnTo(fit(), true)),
  );
  const foot = make("footer", {}, bar.element);
  root.replaceChildren(
    canvas,
    make("header", {}, make("h1", {}, name), search.element),
    key.element,
    make("div", { class: "corner" }, map.element, zooms),
    foot,
    aside,
    tip,
    said,
  );

  hands(canvas, {
    camera: () => camera,
    farthest: () => farthest(picture.width, picture.height, free()),
    look: (next) => {
      flight = null;
      tip.hidden = true;
      clearTimeout(resting);
      camera = held(next, picture.width, picture.height, free());
      redraw();
    },
    point: (x, y) => hover(at(x, y), x, y),
    leave: () => hover(null),
    tap: (x, y, again) => {
      const one = at(x, y);
      tip.hidden = true;
      clearTimeout(resting);
      if (one?.item.kind === "block" && (again || onButton(one, x, y))) toggle(one.item);
      else if (!one && again)
        turnTo(zoomed(camera, x, y, Math.min(camera.zoom * 1.8, NEAREST)), true);
      else if (!again) select(one?.item ?? null);
    },
  });

  const step = (item: Item | null): void => {
    if (!item) return;
    select(item);
    const one = picture.byId.get(item.id)!;
    const { x, y, width, height } = free();
    const left = (one.x - camera.x) * camera.zoom;
    const top = (one.y - camera.y) * camera.zoom;
    if (
      left < x + 20 ||
      top < y + 20 ||
      left + one.width * camera.zoom > x + width - 20 ||
      top + one.height * camera.zoom > y + height - 20
    ) {
      turnTo(centred(one, free(), camera.zoom), true);
    }
  };
  const keys: Record<string, () => void> = {
    "/": () => search.focus(),
    "+": () => zoomBy(1.4),
    "=": () => zoomBy(1.4),
    "-": () => zoomBy(1 / 1.4),
    "0": () => turnTo(fit(), true),
    "[": () => showStage(stage - 1),
    "]": () => showStage(stage + 1),
    e: () => openAll(true),
    c: () => openAll(false),
    o: () => {
      const names = [null, ...model.overlays.map((one) => one.name)];
      nextColours(names[(names.indexOf(overlay) + 1) % names.length]!);
    },
    Enter: () => selected?.kind === "block" && toggle(selected),
    Escape: () => {
      search.clear();
      if (kind !== null) key.choose(null);
      close();
    },
  };
  const arrows: Record<string, () => Item | null> = {
    ArrowDown: () => along(selected, 1, picture, tree, isOpen),
    ArrowUp: () => along(selected, -1, picture, tree, isOpen),
    ArrowRight: () => across(selected, 1, picture),
    ArrowLeft: () => across(selected, -1, picture),
  };
  document.addEventListener("keydown", (event) => {
    const element = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName) && event.key !== "Escape") return;
    if (event.key === "Enter" && element.tagName === "BUTTON") return;
    if (event.key in keys) {
      event.preventDefault();
      keys[event.key]!();
    } else if (event.key in arrows && !aside.contains(element)) {
      event.preventDefault();
      step(arrows[event.key]!());
    }
  });
  night.addEventListener("change", recolour);

  // --- the first view --------------------------------------------------------------------------

  showStage(0, true);
  if (tree!.leaves.length <= SMALL_MODEL) for (const index of tree!.blocks.keys()) open.add(index);
  restyle();
  relayout(null);
  tell();
  const start = (): void => {
    const whole = fit();
    const { x, y, width } = free();
    const zoom = Math.min(Math.max((width - 48) / picture.width, READABLE), 0.9);
    camera =
      whole.zoom >= READABLE
        ? whole
        : { x: picture.width / 2 - (x + width / 2) / zoom, y: -(y + 12) / zoom, zoom };
  };
  let untouched = true;
  canvas.addEventListener("pointerdown", () => (untouched = false));
  canvas.addEventListener("wheel", () => (untouched = false), { passive: true });
  document.addEventListener("keydown", () => (untouched = false));
  new ResizeObserver(() => {
    if (untouched) start();
    redraw();
  }).observe(canvas);
  start();
  redraw();
  requestAnimationFrame(() => root.removeAttribute("aria-busy"));
}

function eased(share: number): number {
  if (share >= 1) return 1;
  return 1 - (1 - Math.max(share, 0)) ** 3;
}

/** The last stage in which most layers have numbers of an overlay. */
function stageOf(model: Model, by: "kernel" | "source", indices: Set<number>): number | null {
  for (let i = model.stages.length - 1; i >= 0; i--) {
    if (model.stages[i]!.nodes.some((node) => node[by] !== null && indices.has(node[by]))) return i;
  }
  return null;
}

const root = document.getElementById("view")!;
readDocument(document.getElementById("document") as HTMLTemplateElement)
  .then((model) => view(model, root))
  .catch((error: unknown) => {
    root.removeAttribute("aria-busy");
    root.replaceChildren(
      make(
        "p",
        { class: "failed", role: "alert" },
        `This page cannot be shown: ${error instanceof Error ? error.message : String(error)}`,
      ),
    );
  });
