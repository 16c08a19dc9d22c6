// The slider: the model as it is in its file, after each pass, and as it runs.

import type { Model, Stage } from "./document";
import { button, make } from "./elements";

export interface Slider {
  readonly element: HTMLElement;
  /** Shows where one is; says what this stage did. */
  mark(stage: number, change: string): void;
}

export function slider(model: Model, go: (stage: number) => void): Slider {
  const last = model.stages.length - 1;
  const range = make("input", {
    type: "range",
    min: "0",
    max: String(last),
    step: "1",
    "aria-label": "Stage of compilation",
  });
  const ticks = make(
    "div",
    { class: "ticks", "aria-hidden": "true" },
    ...model.stages.map((stage, i) => {
      const tick = make("i", {
        title: stage.title,
        ...(stage.same === null ? {} : { class: "same" }),
      });
      tick.style.left = `${last ? (100 * i) / last : 50}%`;
      return tick;
    }),
  );
  const title = make("b");
  const why = make("span", { class: "why" });
  const changed = make("span", { class: "change" });
  const back = button("‹", "Stage before  [", () => go(Number(range.value) - 1));
  const on = button("›", "Next stage  ]", () => go(Number(range.value) + 1));
  range.addEventListener("input", () => go(Number(range.value)));
  const element = make(
    "div",
    { class: "stages" },
    make("div", { class: "track" }, back, make("div", { class: "range" }, ticks, range), on),
    make("p", { "aria-live": "polite" }, title, " ", changed, " ", why),
  );
  element.hidden = last < 1;
  return {
    element,
    mark: (stage, change) => {
      range.value = String(stage);
      const { title: name, why: reason } = model.stages[stage]!;
      range.setAttribute("aria-valuetext", name);
      title.textContent = name;
      changed.textContent = change;
      why.textContent = reason;
      why.title = reason;
      back.disabled = stage === 0;
      on.disabled = stage === last;
    },
  };
}

/** What a stage did to the one before, in a few words. */
export function changeOf(stages: Stage[], at: number): string {
  const now = stages[at]!;
  const total = `${now.nodes.length.toLocaleString("en")} nodes`;
  if (at === 0) return total;
  if (now.same !== null) return `${total}, nothing changed`;
  const before = new Set(stages[at - 1]!.nodes.map((node) => node.key));
  const after = new Set(now.nodes.map((node) => node.key));
  const gone = [...before].filter((key) => !after.has(key)).length;
  const come = [...after].filter((key) => !before.has(key)).length;
  const parts = [gone && `${gone} gone`, come && `${come} new`].filter(Boolean);
  return [total, ...parts].join(", ");
}
