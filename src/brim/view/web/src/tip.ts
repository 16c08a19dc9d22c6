// What a box is, beside the pointer when that rests on it: far away, titles are short or missing.

import { make } from "./elements";

const REST = 450; // ms

export interface Tip {
  readonly element: HTMLElement;
  /** Shows lines of text after a rest at a place of the canvas. */
  soon(lines: string[], x: number, y: number): void;
  hide(): void;
}

export function tip(canvas: HTMLCanvasElement): Tip {
  const element = make("div", { class: "tip", "aria-hidden": "true", hidden: "" });
  let resting = 0;
  const hide = (): void => {
    clearTimeout(resting);
    element.hidden = true;
  };
  const soon = (lines: string[], x: number, y: number): void => {
    hide();
    resting = window.setTimeout(() => {
      element.replaceChildren(
        ...lines.filter(Boolean).map((line, i) => make(i ? "span" : "b", {}, line)),
      );
      element.hidden = false;
      const { offsetWidth, offsetHeight } = element;
      const left = Math.min(x + 14, canvas.clientWidth - offsetWidth - 8);
      const top = y + 18 + offsetHeight > canvas.clientHeight ? y - offsetHeight - 8 : y + 18;
      element.style.transform = `translate(${left}px, ${top}px)`;
    }, REST);
  };
  return { element, soon, hide };
}
