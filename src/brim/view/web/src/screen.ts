// The canvas: what one looks at from where, and how both move.

import {
  type Box,
  type Camera,
  NEAREST,
  between,
  centred,
  farthest,
  fitted,
  held,
  zoomed,
} from "./camera";
import type { Picture, Placed } from "./layout";
import { HEAD } from "./measures";
import type { Look } from "./look";
import { buttonOf, paint } from "./paint";

const MOVE = 220; // ms
const READABLE = 0.34; // zoom; a picture that would be smaller starts at its top

export interface Screen {
  readonly camera: Camera;
  readonly picture: Picture;
  readonly farthest: number;
  /** Another picture. What `kept` was stays where it is, as what it is now; the rest moves. */
  show(picture: Picture, kept: { before: Placed; now: Placed } | null): void;
  /** Draws at the next frame. */
  redraw(): void;
  /** Goes somewhere at once. */
  look(camera: Camera): void;
  /** Flies there. */
  fly(camera: Camera): void;
  zoomBy(factor: number): void;
  /** To a box of the picture, near enough to read it. */
  visit(one: Placed): void;
  /** Only as far as needed to see it. */
  follow(one: Placed): void;
  centre(x: number, y: number): void;
  fit(): void;
  /** The whole picture, or its top where all of it would be too small to read. */
  start(): void;
  at(x: number, y: number): Placed | null;
  onButton(one: Placed, x: number, y: number): boolean;
  /** What is nearest to the middle. */
  central(): Placed | null;
}

export interface ScreenUse {
  look(): Look;
  /** The part of the canvas that nothing covers. */
  free(): Box;
  drawn(camera: Camera): void;
}

export function screen(canvas: HTMLCanvasElement, use: ScreenUse): Screen {
  const pen = canvas.getContext("2d", { alpha: false })!;
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  let camera: Camera = { x: 0, y: 0, zoom: 1 };
  let picture: Picture;
  let motion: { start: number; from: Map<string, { x: number; y: number }> } | null = null;
  let flight: { start: number; from: Camera; to: Camera } | null = null;
  let waiting = false;

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
      shown = share < 1 ? { ...picture, placed: underway(picture, motion.from, share) } : picture;
      if (share >= 1) motion = null;
      else redraw();
    }
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const wide = canvas.clientWidth;
    const high = canvas.clientHeight;
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(high * ratio);
    }
    paint(pen, shown, camera, wide, high, ratio, use.look(), share * share);
    use.drawn(camera);
  };

  const look = (next: Camera): void => {
    flight = null;
    camera = held(next, picture.width, picture.height, use.free());
    redraw();
  };
  const fly = (to: Camera): void => {
    if (still.matches) return look(to);
    flight = { start: performance.now(), from: camera, to };
    redraw();
  };
  const whole = (): Camera =>
    fitted({ x: 0, y: 0, width: picture.width, height: picture.height }, use.free());
  const least = (): number => farthest(picture.width, picture.height, use.free());
  const within = (x: number, y: number): [number, number] => [
    camera.x + x / camera.zoom,
    camera.y + y / camera.zoom,
  ];

  return {
    get camera() {
      return camera;
    },
    get picture() {
      return picture;
    },
    get farthest() {
      return least();
    },
    redraw,
    look,
    fly,
    show: (next, kept) => {
      const before = picture as Picture | undefined;
      picture = next;
      motion = null;
      if (kept) {
        const pin = kept.now.open || kept.before.open ? 0 : 0.5;
        const x = kept.now.x + kept.now.width / 2 - kept.before.x - kept.before.width / 2;
        const y = kept.now.y + kept.now.height * pin - kept.before.y - kept.before.height * pin;
        flight = null;
        camera = { ...camera, x: camera.x + x, y: camera.y + y };
        if (before && !still.matches)
          motion = { start: performance.now(), from: origins(before, next, x, y) };
      }
      redraw();
    },
    zoomBy: (factor) => {
      const { x, y, width, height } = use.free();
      const from = flight?.to ?? camera;
      const zoom = Math.min(Math.max(from.zoom * factor, least()), NEAREST);
      fly(zoomed(from, x + width / 2, y + height / 2, zoom));
    },
    visit: (one) => {
      const top = { ...one, height: Math.min(one.height, 200) };
      fly(centred(top, use.free(), Math.max(camera.zoom, 0.85)));
    },
    follow: (one) => {
      const { x, y, width, height } = use.free();
      const left = (one.x - camera.x) * camera.zoom;
      const top = (one.y - camera.y) * camera.zoom;
      const right = left + one.width * camera.zoom;
      const bottom = top + one.height * camera.zoom;
      const inside =
        left > x + 20 && top > y + 20 && right < x + width - 20 && bottom < y + height - 20;
      if (!inside) fly(centred(one, use.free(), camera.zoom));
    },
    centre: (x, y) => look(centred({ x, y, width: 0, height: 0 }, use.free(), camera.zoom)),
    fit: () => fly(whole()),
    start: () => {
      const { x, y, width } = use.free();
      const zoom = Math.min(Math.max((width - 48) / picture.width, READABLE), 0.9);
      const all = whole();
      camera =
        all.zoom >= READABLE
          ? all
          : { x: picture.width / 2 - (x + width / 2) / zoom, y: -(y + 12) / zoom, zoom };
      redraw();
    },
    at: (x, y) => {
      const [toX, toY] = within(x, y);
      const room = 3 / camera.zoom;
      for (let i = picture.placed.length - 1; i >= 0; i--) {
        const one = picture.placed[i]!;
        if (toX < one.x - room || toX > one.x + one.width + room) continue;
        // of an open block only its head is itself
        const height = one.open ? Math.max(HEAD, 14 / camera.zoom) : one.height;
        if (toY >= one.y - room && toY <= one.y + height + room) return one;
      }
      return null;
    },
    onButton: (one, x, y) => {
      const sign = buttonOf(one);
      const [toX, toY] = within(x, y);
      return Math.hypot(sign.x - toX, sign.y - toY) * camera.zoom < 13;
    },
    central: () => {
      const { x, y, width, height } = use.free();
      const [toX, toY] = within(x + width / 2, y + height / 2);
      let best: Placed | null = null;
      let nearest = Infinity;
      for (const one of picture.placed) {
        if (one.open) continue;
        const away = Math.hypot(one.x + one.width / 2 - toX, one.y + one.height / 2 - toY);
        if (away < nearest) [best, nearest] = [one, away];
      }
      return best;
    },
  };
}

/** Where things come from: where they were, or out of the block that was closed before. */
function origins(
  before: Picture,
  now: Picture,
  dx: number,
  dy: number,
): Map<string, { x: number; y: number }> {
  const from = new Map<string, { x: number; y: number }>();
  for (const one of now.placed) {
    const was = before.byId.get(one.item.id);
    const parent = one.item.parent!;
    const start = from.get(parent.id);
    if (was) {
      from.set(one.item.id, { x: was.x + (was.width - one.width) / 2 + dx, y: was.y + dy });
    } else if (start) {
      const around = now.byId.get(parent.id)!;
      from.set(one.item.id, {
        x: start.x + one.x - around.x,
        y: start.y + (one.y - around.y) * 0.6,
      });
    }
  }
  return from;
}

function underway(
  picture: Picture,
  from: Map<string, { x: number; y: number }>,
  share: number,
): Placed[] {
  return picture.placed.map((one) => {
    const start = from.get(one.item.id);
    if (!start) return one;
    return {
      ...one,
      x: start.x + (one.x - start.x) * share,
      y: start.y + (one.y - start.y) * share,
    };
  });
}

function eased(share: number): number {
  return share >= 1 ? 1 : 1 - (1 - Math.max(share, 0)) ** 3;
}
