// What Python hands over; view/document.py says what each part means.

export interface Operator {
  op: string;
  kind: string;
  key: number;
  source: number | null;
  block: number | null;
  inputs: [number, number][];
  outputs: string[];
  attrs: Record<string, string>;
  weights: [number, number][];
  kernel: number | null;
  hint?: string;
  body?: number[];
}

export interface Stage {
  name: string;
  title: string;
  why: string;
  same: number | null;
  nodes: Operator[];
}

export interface BlockName {
  name: string;
  parent: number | null;
  alike: number | null;
}

export interface Weight {
  name: string;
  type: string;
  bytes: number;
  low: number | null;
  high: number | null;
  mean: number | null;
  zeros: number | null;
  counts: number[] | null;
  values: string[] | null;
  sampled: boolean;
}

export interface Kernel {
  ops: string[];
  where: string;
  schedule: string;
  predicted: number | null;
  measured: number | null;
  flops: number;
  bytes: number;
  times: number;
}

export interface Overlay {
  name: string;
  title: string;
  unit: string;
  by: "kernel" | "source";
  bad: "high" | "low";
  values: [number, number][];
}

export interface Model {
  version: number;
  name: string;
  facts: [string, string][];
  sources: string[];
  blocks: BlockName[];
  weights: Weight[];
  stages: Stage[];
  kernels: Kernel[];
  overlays: Overlay[];
}

/** The document of a page: JSON, gzip, base64. */
export async function readDocument(element: HTMLTemplateElement): Promise<Model> {
  const text = atob((element.content.textContent ?? "").trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const model = (await new Response(stream).json()) as Model;
  if (model.version !== 1) throw new Error(`a document of version ${model.version}, not 1`);
  for (const stage of model.stages) {
    if (stage.same !== null) stage.nodes = model.stages[stage.same]!.nodes;
  }
  return model;
}
