// Where one looks: screen = (world - origin) * zoom, in CSS pixels.

export interface Camera {
  x: number;
  y: number;
  zoom: number;
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export const NEAREST = 4;

/** The farthest zoom: all of a picture with some room, or what was always allowed. */
export function farthest(width: number, height: number, view: Box): number {
  return Math.min(0.2, (view.width / (width + 80)) * 0.7, (view.height / (height + 80)) * 0.7);
}

/** Shows a box in the middle of the view, no larger than `most`. `view`: the part of the window
 * that nothing covers. */
export function fitted(box: Box, view: Box, most = 1.2, margin = 24): Camera {
  const zoom = Math.min(
    (view.width - 2 * margin) / box.width,
    (view.height - 2 * margin) / box.height,
    most,
  );
  return centred(box, view, zoom);
}

export function centred(box: Box, view: Box, zoom: number): Camera {
  return {
    x: box.x + box.width / 2 - (view.x + view.width / 2) / zoom,
    y: box.y + box.height / 2 - (view.y + view.height / 2) / zoom,
    zoom,
  };
}

/** Zooms so that what is at (x, y) on the screen stays there. */
export function zoomed(camera: Camera, x: number, y: number, zoom: number): Camera {
  return {
    x: camera.x + x / camera.zoom - x / zoom,
    y: camera.y + y / camera.zoom - y / zoom,
    zoom,
  };
}

/** Between two places; the zoom goes by equal factors, and what both show moves straight. */
export function between(a: Camera, b: Camera, share: number): Camera {
  const zoom = a.zoom * (b.zoom / a.zoom) ** share;
  const way =
    Math.abs(b.zoom - a.zoom) < 1e-9 ? share : (1 / zoom - 1 / a.zoom) / (1 / b.zoom - 1 / a.zoom);
  return { x: a.x + (b.x - a.x) * way, y: a.y + (b.y - a.y) * way, zoom };
}

/** As near as possible to a place from where some of the picture is still seen. */
export function held(camera: Camera, width: number, height: number, view: Box): Camera {
  const some = 60 / camera.zoom;
  const left = (view.x + view.width) / camera.zoom - some;
  const top = (view.y + view.height) / camera.zoom - some;
  return {
    ...camera,
    x: Math.min(Math.max(camera.x, -left), width - view.x / camera.zoom - some),
    y: Math.min(Math.max(camera.y, -top), height - view.y / camera.zoom - some),
  };
}
