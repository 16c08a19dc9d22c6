// Bundles src/ with the layout library into one script: `node build.mjs PAGE.js`.
// Its first lines name the licence of what is in it and the digest of these sources, by which a
// test without node sees that the committed bundle is theirs.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url);
const sources = ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"];
sources.push(...readdirSync(new URL("src", here)).map((name) => `src/${name}`));
const digest = createHash("sha256");
for (const name of sources.sort()) digest.update(name).update(readFileSync(new URL(name, here)));

const library = new URL("node_modules/@dagrejs/dagre/", here);
const { name, version } = JSON.parse(readFileSync(new URL("package.json", library), "utf8"));
const licence = readFileSync(new URL("LICENSE", library), "utf8").trim();

await build({
  absWorkingDir: new URL(".", here).pathname,
  entryPoints: ["src/main.ts"],
  outfile: process.argv[2],
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "iife",
  target: "es2022",
  legalComments: "none",
  banner: {
    js:
      `/* The page of brim view. Built of src/brim/view/web by \`make web\`; do not edit.\n` +
      `sources ${digest.digest("hex")}\n\nContains ${name} ${version}:\n\n${licence}\n*/`,
  },
});
