// What is in a closed block, small: the eye knows a residual block by its shape.

import type { Arrangement, Placed } from "./layout";
import { type Look, spot } from "./look";
import type { Block } from "./tree";

/** What a closed block holds, small. */
export function thumb(
  pen: CanvasRenderingContext2D,
  one: Placed,
  zoom: number,
  look: Look,
  from: number,
): void {
  const block = one.item as Block;
  const inside = look.thumb(block);
  if (!inside) return;
  const room = {
    x: one.x + 10,
    y: one.y + from,
    width: one.width - 20,
    height: one.height - from - 7,
  };
  const scale = Math.min(room.width / inside.width, room.height / inside.height);
  if (room.height * zoom < 6) return;
  // wide enough to be seen: a chain of boxes fills at least a part of the width
  const stretch = Math.min(room.width / (inside.width * scale), 5);
  const x = room.x + (room.width - inside.width * scale * stretch) / 2;
  const y = room.y + (room.height - inside.height * scale) / 2;
  pen.strokeStyle = look.theme.edge;
  pen.lineWidth = 0.6;
  small(pen, block, inside, { x, y, wide: scale * stretch, high: scale }, look);
}

interface Scale {
  readonly x: number;
  readonly y: number;
  readonly wide: number;
  readonly high: number;
}

function small(
  pen: CanvasRenderingContext2D,
  block: Block,
  inside: Arrangement,
  at: Scale,
  look: Look,
): void {
  pen.beginPath();
  for (const { points } of inside.links) {
    pen.moveTo(at.x + points[0]! * at.wide, at.y + points[1]! * at.high);
    for (let i = 2; i < points.length; i += 2)
      pen.lineTo(at.x + points[i]! * at.wide, at.y + points[i + 1]! * at.high);
  }
  pen.stroke();
  block.items.forEach((item, i) => {
    const { width, height } = inside.sizes[i]!;
    const x = at.x + inside.lefts[i]! * at.wide;
    const y = at.y + inside.tops[i]! * at.high;
    const deeper = inside.inner[i];
    if (deeper) {
      small(pen, item as Block, deeper, { ...at, x, y }, look);
      return;
    }
    const high = Math.max(height * at.high, 1.5);
    const top = y + (height * at.high - high) / 2;
    spot(pen, item, { x, y: top, width: width * at.wide, height: high }, look);
  });
}
