// All of the picture, small, and where in it one is.

import type { Box, Camera } from "./camera";
import type { Picture } from "./layout";
import { type Look, spot } from "./look";

const WIDE = 150;
const HIGH = 230;
const LEAST = 18;

export interface Minimap {
  readonly element: HTMLCanvasElement;
  /** Another picture, or other colours. */
  draw(picture: Picture, look: Look): void;
  /** Where one is now; hidden where all is in view anyway. */
  mark(camera: Camera, view: Box): void;
}

/** `move`: asked to show what is at a place of the picture. */
export function minimap(move: (x: number, y: number) => void): Minimap {
  const element = document.createElement("canvas");
  element.className = "minimap";
  element.setAttribute("aria-hidden", "true");
  const store = document.createElement("canvas");
  let picture: Picture | null = null;
  let look: Look | null = null;
  let scale = 1;
  let dirty = false;
  const ratio = Math.min(window.devicePixelRatio || 1, 2);

  const size = (): { wide: number; high: number } => ({
    wide: Math.max(picture!.width * scale, LEAST),
    high: Math.max(picture!.height * scale, LEAST),
  });
  const render = (): void => {
    const { wide, high } = size();
    for (const canvas of [element, store]) {
      canvas.width = Math.ceil(wide * ratio);
      canvas.height = Math.ceil(high * ratio);
    }
    element.style.width = `${wide}px`;
    element.style.height = `${high}px`;
    const pen = store.getContext("2d")!;
    pen.setTransform(ratio * scale, 0, 0, ratio * scale, 0, 0);
    for (const one of picture!.placed) {
      if (one.open) {
        pen.fillStyle = look!.theme.dark ? "rgba(255,255,255,0.05)" : "rgba(30,50,90,0.06)";
        pen.fillRect(one.x, one.y, one.width, one.height);
      } else {
        pen.globalAlpha = look!.picked && !look!.picked.has(one.item) ? 0.2 : 0.85;
        const width = Math.max(one.width, 2 / scale);
        spot(
          pen,
          one.item,
          { x: one.x, y: one.y, width, height: Math.max(one.height, 1.6 / scale) },
          look!,
        );
        pen.globalAlpha = 1;
      }
    }
    dirty = false;
  };
  const draw = (next: Picture, now: Look): void => {
    picture = next;
    look = now;
    scale = Math.min(WIDE / next.width, HIGH / next.height);
    dirty = true;
  };
  const mark = (camera: Camera, view: Box): void => {
    if (!picture || !look) return;
    const left = Math.max(camera.x + view.x / camera.zoom, 0);
    const top = Math.max(camera.y + view.y / camera.zoom, 0);
    const right = Math.min(camera.x + (view.x + view.width) / camera.zoom, picture.width);
    const bottom = Math.min(camera.y + (view.y + view.height) / camera.zoom, picture.height);
    const all = (right - left) * (bottom - top) > 0.97 * picture.width * picture.height;
    element.hidden = all || view.width < 500;
    if (element.hidden) return;
    if (dirty) render();
    const pen = element.getContext("2d")!;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, element.width, element.height);
    pen.drawImage(store, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.strokeStyle = look.theme.accent;
    pen.lineWidth = 1.5;
    pen.strokeRect(
      left * scale + 0.75,
      top * scale + 0.75,
      Math.max((right - left) * scale - 1.5, 3),
      Math.max((bottom - top) * scale - 1.5, 3),
    );
  };
  const go = (event: PointerEvent): void => {
    const at = element.getBoundingClientRect();
    move((event.clientX - at.left) / scale, (event.clientY - at.top) / scale);
  };
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    go(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) go(event);
  });
  return { element, draw, mark };
}
