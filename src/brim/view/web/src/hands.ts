// Mouse, touch and keys on the canvas, as what they mean.

import { type Camera, NEAREST, zoomed } from "./camera";

export interface Use {
  camera(): Camera;
  farthest(): number;
  look(camera: Camera): void;
  point(x: number, y: number): void;
  /** `again`: a second time at once. */
  tap(x: number, y: number, again: boolean): void;
  leave(): void;
}

const STILL = 5; // CSS pixels that a finger may move while it taps
const AGAIN = 350; // ms

export function hands(canvas: HTMLCanvasElement, use: Use): void {
  const down = new Map<number, { x: number; y: number }>();
  let moved = 0;
  let last = { time: -Infinity, x: 0, y: 0 };
  let speed = { x: 0, y: 0, time: 0 };
  let gliding = 0;

  const middle = (): { x: number; y: number; apart: number } => {
    const [a, b = a] = [...down.values()] as [{ x: number; y: number }, { x: number; y: number }?];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
  };
  const limited = (zoom: number): number => Math.min(Math.max(zoom, use.farthest()), NEAREST);
  const pan = (x: number, y: number): void => {
    const camera = use.camera();
    use.look({ ...camera, x: camera.x - x / camera.zoom, y: camera.y - y / camera.zoom });
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    cancelAnimationFrame(gliding);
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved = down.size > 1 ? Infinity : 0;
    speed = { x: 0, y: 0, time: event.timeStamp };
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = down.get(event.pointerId);
    if (!finger) {
      if (event.pointerType === "mouse") use.point(event.offsetX, event.offsetY);
      return;
    }
    const before = middle();
    const stepX = event.offsetX - finger.x;
    const stepY = event.offsetY - finger.y;
    moved += Math.hypot(stepX, stepY);
    if (moved <= STILL) return;
    finger.x = event.offsetX;
    finger.y = event.offsetY;
    const now = middle();
    pan(now.x - before.x, now.y - before.y);
    if (down.size > 1 && before.apart > 0) {
      const camera = use.camera();
      use.look(zoomed(camera, now.x, now.y, limited((camera.zoom * now.apart) / before.apart)));
    }
    const took = Math.max(event.timeStamp - speed.time, 1);
    speed = { x: stepX / took, y: stepY / took, time: event.timeStamp };
  });
  const up = (event: PointerEvent): void => {
    if (!down.delete(event.pointerId) || down.size) return;
    if (moved <= STILL && event.type === "pointerup") {
      const again =
        event.timeStamp - last.time < AGAIN &&
        Math.hypot(event.offsetX - last.x, event.offsetY - last.y) < 20;
      last = { time: again ? -Infinity : event.timeStamp, x: event.offsetX, y: event.offsetY };
      use.tap(event.offsetX, event.offsetY, again);
    } else if (event.pointerType === "touch" && event.timeStamp - speed.time < 40) {
      glide(performance.now());
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => use.leave());

  const glide = (before: number): void => {
    gliding = requestAnimationFrame((now) => {
      const took = now - before;
      pan(speed.x * took, speed.y * took);
      const left = Math.exp(-took / 180);
      speed = { ...speed, x: speed.x * left, y: speed.y * left };
      if (Math.hypot(speed.x, speed.y) > 0.03) glide(now);
    });
  };

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      cancelAnimationFrame(gliding);
      const unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? 400 : 1;
      if (event.ctrlKey || event.metaKey) {
        const camera = use.camera();
        // a notch of a wheel is 100 or more, a pinch on a pad a few
        const step = Math.min(Math.max(event.deltaY * unit, -60), 60);
        use.look(
          zoomed(
            camera,
            event.offsetX,
            event.offsetY,
            limited(camera.zoom * Math.exp(-step / 160)),
          ),
        );
      } else if (event.shiftKey && !event.deltaX) {
        pan(-event.deltaY * unit, 0);
      } else {
        pan(-event.deltaX * unit, -event.deltaY * unit);
      }
    },
    { passive: false },
  );
}
