/** Who may import whom: main -> lib -> bpf-programs -> asm, build.ts -> build -> asm, never back; bun:ffi in one file. */
import { expect, test } from "bun:test";
import { Glob } from "bun";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const root = join(import.meta.dir, "..");

interface Import {
  readonly file: string;
  /** a path from the root, or the name of a package */
  readonly target: string;
}

const patterns = [
  "main.ts",
  "build.ts",
  "build/**/*.ts",
  "asm/**/*.ts",
  "bpf-programs/**/*.ts",
  "lib/**/*.ts",
];
const files = patterns.flatMap((pattern) => [...new Glob(pattern).scanSync(root)]).sort();

const imports: Import[] = files.flatMap((file) => {
  const text = readFileSync(join(root, file), "utf8");
  const found = text.matchAll(/\bfrom "([^"]+)"|^import "([^"]+)"|\bimport\("([^"]+)"\)/gm);
  return [...found].map((match) => {
    const name = match[1] ?? match[2] ?? match[3] as string;
    return { file, target: name.startsWith(".") ? normalize(join(dirname(file), name)) : name };
  });
});

/** The layer of a file: the higher may import the lower. */
const layers = ["asm/", "bpf-programs/", "lib/", "main.ts"];
const layerOf = (path: string) => layers.findIndex((layer) => path.startsWith(layer));

/** Inside lib, the same. What is not listed may be imported by all: errors, names, pure front ends. */
const floors = ["sys", "btf", "symbols", "maps", "link", "trace", "output", "verdict", "doctor", "cli"];
const floorOf = (path: string) => path.startsWith("lib/") ? floors.indexOf(path.split("/")[1] ?? "") : -1;

test("The tree has the files it is about", () => {
  expect(files).toContain("asm/assemble.ts");
  expect(imports.length).toBeGreaterThan(30);
});

test("Layers import downwards only", () => {
  const upwards = imports.filter(({ file, target }) => layerOf(target) > layerOf(file) && layerOf(file) >= 0);
  expect(upwards).toEqual([]);
});

test("asm/ imports nothing from outside", () => {
  const outside = imports.filter(({ file, target }) => file.startsWith("asm/") && !target.startsWith("asm/"));
  expect(outside).toEqual([]);
});

test("bpf-programs/ imports asm/ only", () => {
  const outside = imports.filter(({ file, target }) =>
    file.startsWith("bpf-programs/") && !target.startsWith("asm/") && !target.startsWith("bpf-programs/")
  );
  expect(outside).toEqual([]);
});

test("build/ imports asm/ only, and only build.ts imports build/", () => {
  const outside = imports.filter(({ file, target }) =>
    file.startsWith("build/") &&
    !["build/", "asm/", "node:", "package.json", "package-lock.json"].some((prefix) =>
      target.startsWith(prefix)
    )
  );
  const users = imports.filter(({ file, target }) =>
    target.startsWith("build/") && !file.startsWith("build/")
  );
  expect(outside).toEqual([]);
  expect(new Set(users.map(({ file }) => file))).toEqual(new Set(["build.ts"]));
});

test("Inside lib, cli and output sit on trace, trace on links and maps, those on sys", () => {
  const upwards = imports.filter(({ file, target }) => {
    const from = floorOf(file), to = floorOf(target);
    return from >= 0 && to > from;
  });
  expect(upwards).toEqual([]);
});

test("The packet filter's language is pure, but for the file that reads /etc", () => {
  const impure = imports.filter(({ file, target }) =>
    file.startsWith("lib/pcap_filter/") && file !== "lib/pcap_filter/names_files.ts" &&
    !["lib/pcap_filter/", "lib/errors.ts", "asm/"].some((prefix) => target.startsWith(prefix))
  );
  expect(impure).toEqual([]);
});

test("The expression language is pure", () => {
  const pure = ["lib/expr/", "lib/errors.ts", "lib/nearest_name.ts", "lib/btf/parse.ts", "lib/btf/walk.ts"];
  const impure = imports.filter(({ file, target }) =>
    file.startsWith("lib/expr/") &&
    ![...pure, "asm/", "bpf-programs/"].some((prefix) => target.startsWith(prefix))
  );
  expect(impure).toEqual([]);
});

test("bun:ffi has one door", () => {
  expect(
    imports.filter(({ target }) => target === "bun:ffi").map(({ file }) => file).filter((file) =>
      file !== "lib/sys/ffi.ts"
    ),
  ).toEqual([]);
});
