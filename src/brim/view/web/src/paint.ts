// Draws a picture on a canvas. Only what is in view, and only as much of it as can be seen from
// there: far away, boxes are spots and lines are straight.

import type { Camera } from "./camera";
import { type Paint, ground } from "./colours";
import type { Picture, Placed } from "./layout";
import { lines, types } from "./lines";
import { type Look, paintOf, secondLine } from "./look";
import { FONT, HEAD, LABEL, ROWS, SMALL, TITLE, shortened, textWidth } from "./measures";
import { thumb } from "./thumb";

const LEAST_TEXT = 7; // CSS pixels; smaller texts are left out
const STEADY_TEXT = 10.5; // titles do not get smaller than this while there is room for them
const CORNER = 7;
const BUTTONS = 0.45; // zoom from which on they can be hit

export function paint(
  pen: CanvasRenderingContext2D,
  picture: Picture,
  camera: Camera,
  wide: number,
  high: number,
  ratio: number,
  look: Look,
  shown = 1,
): void {
  const { zoom } = camera;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = look.theme.paper;
  pen.fillRect(0, 0, wide, high);
  pen.setTransform(
    ratio * zoom,
    0,
    0,
    ratio * zoom,
    -camera.x * zoom * ratio,
    -camera.y * zoom * ratio,
  );
  const left = camera.x;
  const top = camera.y;
  const right = left + wide / zoom;
  const bottom = top + high / zoom;
  const inView = picture.placed.filter(
    (one) =>
      one.x < right && one.x + one.width > left && one.y < bottom && one.y + one.height > top,
  );
  const links = picture.links.filter(
    (link) =>
      link.left - 2 < right && link.right + LABEL > left && link.top < bottom && link.bottom > top,
  );
  for (const one of inView) if (one.open) frame(pen, one, zoom, look);
  pen.globalAlpha = shown;
  lines(pen, links, zoom, look);
  pen.globalAlpha = 1;
  for (const one of inView) if (!one.open) box(pen, one, zoom, look);
  for (const one of inView) if (one.open) caption(pen, one, zoom, look);
  if (zoom * SMALL >= LEAST_TEXT + 0.5) {
    pen.globalAlpha = shown;
    types(pen, links, look);
    pen.globalAlpha = 1;
  }
}

/** An open block. */
function frame(pen: CanvasRenderingContext2D, one: Placed, zoom: number, look: Look): void {
  const { theme } = look;
  pen.fillStyle = ground(theme, one.depth + 1);
  const chosen = one.item === look.selected;
  pen.strokeStyle = chosen || one.item === look.hovered ? theme.accent : theme.line;
  pen.lineWidth = (chosen ? 2 : 1) / Math.max(zoom, 0.5);
  rounded(pen, one, CORNER + 4, zoom);
  pen.fill();
  pen.stroke();
}

function caption(pen: CanvasRenderingContext2D, one: Placed, zoom: number, look: Look): void {
  const size = Math.max(TITLE - 1, Math.min(10 / zoom, HEAD * 0.8));
  if (size * zoom < LEAST_TEXT) return;
  const { theme } = look;
  sign(pen, one.x + 14, one.y + HEAD / 2, theme.soft, false);
  const text = shortened(look.title(one.item), one.width - 34, size, 600);
  const wide = textWidth(text, size, 600);
  pen.fillStyle = ground(theme, one.depth + 1); // lines that enter pass below the name
  pen.fillRect(one.x + 22, one.y + HEAD / 2 - size / 2 - 1, wide + 6, size + 3);
  pen.fillStyle = theme.soft;
  write(pen, text, one.x + 25, one.y + HEAD / 2, size, 600);
}

/** A round button with a plus or a minus. */
function sign(
  pen: CanvasRenderingContext2D,
  x: number,
  y: number,
  colour: string,
  plus: boolean,
): void {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.2;
  pen.beginPath();
  pen.arc(x, y, 6, 0, 2 * Math.PI);
  pen.moveTo(x - 3, y);
  pen.lineTo(x + 3, y);
  if (plus) {
    pen.moveTo(x, y - 3);
    pen.lineTo(x, y + 3);
  }
  pen.stroke();
}

/** Where the button of a block is that opens or closes it. */
export function buttonOf(one: Placed): { x: number; y: number } {
  return one.open
    ? { x: one.x + 14, y: one.y + HEAD / 2 }
    : { x: one.x + one.width - 15, y: one.y + 15 };
}

function box(pen: CanvasRenderingContext2D, one: Placed, zoom: number, look: Look): void {
  const { item } = one;
  const colours = paintOf(item, look);
  const picked = look.picked?.has(item) ?? false;
  const dimmed = look.picked !== null && !picked;
  if (dimmed) pen.globalAlpha = 0.22;
  const chosen = item === look.selected;
  const hovered = item === look.hovered;
  const far = one.height * zoom < 5;
  if (item.kind === "block" && !far) {
    // the edge of a card below says that there is more in it
    pen.fillStyle = colours.fill;
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1;
    rounded(pen, { ...one, x: one.x + 4, y: one.y + 4 }, CORNER, zoom);
    pen.fill();
    pen.stroke();
  }
  pen.fillStyle = far && !look.reading && item.kind === "leaf" ? colours.line : colours.fill;
  if (far) {
    pen.fillRect(one.x, one.y, one.width, one.height);
  } else {
    const port =
      item.kind === "leaf" && (item.node.kind === "input" || item.node.kind === "output");
    rounded(pen, one, port ? one.height / 2 : CORNER, zoom);
    pen.fill();
    pen.strokeStyle = chosen || hovered || picked ? look.theme.accent : colours.line;
    pen.lineWidth = (chosen ? 2.5 : picked ? 1.8 : 1.2) / Math.min(Math.max(zoom, 0.4), 1);
    if (item.kind === "leaf" && item.node.kind === "folded") pen.setLineDash([4, 3]);
    pen.stroke();
    pen.setLineDash([]);
  }
  if (far && (chosen || picked)) ring(pen, one, zoom, look.theme.accent);
  if (!far && look.fresh.has(item)) {
    pen.fillStyle = look.theme.accent;
    pen.beginPath();
    pen.arc(one.x + one.width - 1, one.y + 1, 3.5, 0, 2 * Math.PI);
    pen.fill();
  }
  texts(pen, one, zoom, look, colours);
  if (dimmed) pen.globalAlpha = 1;
}

function ring(pen: CanvasRenderingContext2D, one: Placed, zoom: number, colour: string): void {
  const wide = Math.max(1.6, 1.6 / zoom);
  pen.strokeStyle = colour;
  pen.lineWidth = wide;
  const around = {
    x: one.x - wide * 1.5,
    y: one.y - wide * 1.5,
    width: one.width + 3 * wide,
    height: one.height + 3 * wide,
  };
  rounded(pen, around, CORNER + wide, zoom);
  pen.stroke();
}

function texts(
  pen: CanvasRenderingContext2D,
  one: Placed,
  zoom: number,
  look: Look,
  colours: Paint,
): void {
  const { item } = one;
  const block = item.kind === "block";
  const second = secondLine(item, look);
  const room = one.width - (block ? (zoom > BUTTONS ? 40 : 16) : 4);
  let size = TITLE;
  if (zoom * TITLE < STEADY_TEXT) {
    // seen from farther away the title stays legible as long as its box has room
    size = Math.min(STEADY_TEXT / zoom, block ? 30 : one.height - 6, TITLE * 2.4);
    const title = look.title(item);
    const wide = textWidth(title, size, 600);
    const least = Math.max(Math.min(size, (LEAST_TEXT + 1) / zoom), TITLE);
    if (wide > room) size = Math.max((size * room) / wide, least);
  }
  if (size * zoom < LEAST_TEXT) {
    if (block && one.height * zoom > 12) thumb(pen, one, zoom, look, ROWS);
    return;
  }
  const two = second !== "" && zoom * SMALL >= LEAST_TEXT && size < TITLE * 1.35;
  const middle = block ? one.y + (two ? 15 : 21) : one.y + (two ? 15 : one.height / 2 + 0.5);
  const title = shortened(look.title(item), room, size, 600);
  pen.fillStyle = colours.ink;
  if (block) write(pen, title, one.x + 11, middle, size, 600);
  else
    write(pen, title, one.x + one.width / 2 - textWidth(title, size, 600) / 2, middle, size, 600);
  if (two) {
    const text = shortened(second, one.width - 12, SMALL);
    pen.fillStyle = colours.soft;
    const x = block ? one.x + 11 : one.x + one.width / 2 - textWidth(text, SMALL) / 2;
    write(pen, text, x, middle + 15, SMALL, 400);
  }
  if (block) {
    thumb(pen, one, zoom, look, ROWS);
    if (zoom > BUTTONS) sign(pen, one.x + one.width - 15, one.y + 15, colours.soft, true);
  }
}

function write(
  pen: CanvasRenderingContext2D,
  text: string,
  x: number,
  y: number,
  size: number,
  weight: number,
): void {
  const font = `${weight} ${size}px ${FONT}`;
  if (pen.font !== font) pen.font = font;
  pen.textBaseline = "middle";
  pen.fillText(text, x, y);
}

function rounded(
  pen: CanvasRenderingContext2D,
  at: { x: number; y: number; width: number; height: number },
  corner: number,
  zoom: number,
): void {
  pen.beginPath();
  if (zoom < 0.25) pen.rect(at.x, at.y, at.width, at.height);
  else pen.roundRect(at.x, at.y, at.width, at.height, corner);
}
