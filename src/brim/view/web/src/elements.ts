// HTML from texts that nobody vouches for: they become text nodes and nothing else.

type Part = Node | string | null;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...parts: Part[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...parts.filter((part) => part !== null));
  return element;
}

/** A button; where its label is only a sign, its title is its name. */
export function button(label: string, title: string, act: () => void): HTMLButtonElement {
  const element = make("button", { type: "button", title }, label);
  if (label.length === 1) element.setAttribute("aria-label", title);
  element.addEventListener("click", act);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Columns of logarithmic height, so that a few numbers far out are seen beside many near zero. */
export function histogram(counts: number[]): SVGSVGElement {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${counts.length} 100`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("class", "histogram");
  picture.setAttribute("aria-hidden", "true");
  const most = Math.log1p(Math.max(...counts, 1));
  const path = document.createElementNS(SVG, "path");
  const steps = counts.map((count) => `V${(100 - (100 * Math.log1p(count)) / most).toFixed(1)}h1`);
  path.setAttribute("d", `M0 100${steps.join("")}V100Z`);
  picture.append(path);
  return picture;
}

/** A bar that fills a share of its line. */
export function meter(share: number, colour: string): HTMLElement {
  const bar = make("span", { class: "bar" });
  bar.style.width = `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(1)}%`;
  bar.style.background = colour;
  return make("span", { class: "meter" }, bar);
}
