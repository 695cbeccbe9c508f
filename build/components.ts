/** What a static file is made of: each component once, for NOTICE and the SBOM. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import lock from "../package-lock.json" with { type: "json" };
import { bunVersion } from "./bun.ts";
import { BuildError } from "./error.ts";
import { repository } from "./host.ts";
import { type Libc, pin } from "./libc.ts";
import type { Source } from "./version.ts";

export interface Component {
  readonly name: string;
  readonly version: string;
  /** SPDX expression */
  readonly license: string;
  /** package URL (github.com/package-url) */
  readonly purl: string;
  /** where its source is */
  readonly source: string;
  /** what to know of it, for NOTICE */
  readonly remark: string;
  /** licence texts, or what the component says about its licence */
  readonly text: string;
}

/** Ours comes first. */
export function components(source: Source, libc: Libc): Component[] {
  return [
    {
      name: "pwru",
      version: source.version,
      license: "Apache-2.0",
      purl: `pkg:generic/pwru@${source.release}`,
      source: "NOASSERTION",
      remark: "This program.",
      text: readFileSync(join(repository, "LICENSE"), "utf8"),
    },
    {
      name: "bun",
      version: bunVersion,
      license: "MIT AND LGPL-2.0-or-later AND LGPL-2.1-or-later",
      purl: `pkg:npm/bun@${bunVersion}`,
      source: `https://github.com/oven-sh/bun/tree/bun-v${bunVersion}`,
      remark:
        "The runtime, whole and unmodified, with the program attached to it by `bun build --compile`. Bun " +
        "is MIT. It contains JavaScriptCore (LGPL-2) and TinyCC (LGPL-2.1), linked statically, and smaller " +
        "libraries. All their licences, and how to relink Bun with other versions of them, are in the file " +
        "named here; the text of the LGPL follows below.",
      text: `https://github.com/oven-sh/bun/blob/bun-v${bunVersion}/LICENSE.md\n`,
    },
    {
      name: pin.package,
      version: pin.version,
      license: "LGPL-2.1-or-later",
      purl: `pkg:deb/debian/${pin.package}@${encodeURIComponent(pin.version)}?distro=debian-12`,
      source: `https://snapshot.debian.org/package/${pin.source}/${encodeURIComponent(pin.version)}/`,
      remark:
        "The GNU C Library: ld.so, libc, libm, libpthread and libdl of this Debian package, unmodified. " +
        "They are loaded when the program starts, and can be replaced: put another package into " +
        "build/libc.ts and build again. The complete source is Debian's, of exactly this version.",
      text: `${libc.copyright}\n${readFileSync(join(import.meta.dir, "licenses/LGPL-2.1.txt"), "utf8")}`,
    },
    ...bundledPackages(),
  ];
}

/** npm packages that are bundled: those that a production install has, but for the optional ones. */
function bundledPackages(): Component[] {
  const packages: Readonly<
    Record<string, { version?: string; license?: string; dev?: boolean; optional?: boolean }>
  > = lock.packages;
  return Object.entries(packages)
    .filter(([path, { dev, optional }]) => path !== "" && dev !== true && optional !== true)
    .map(([path, { version = "", license = "NOASSERTION" }]) => {
      const name = path.replace(/^.*node_modules\//, "");
      return {
        name,
        version,
        license,
        purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
        source: `https://www.npmjs.com/package/${name}/v/${version}`,
        remark: "Bundled.",
        text: licenseText(join(repository, path)),
      };
    });
}

/** A package's licence file, or what its README says under that heading. */
function licenseText(folder: string): string {
  const files = readdirSync(folder);
  const license = files.find((name) => /^licen[cs]e/i.test(name));
  if (license !== undefined) return readFileSync(join(folder, license), "utf8");
  const readme = files.find((name) => /^readme/i.test(name));
  const section = readme &&
    /^#+ *licen[cs]e *\n+([^]*)/im.exec(readFileSync(join(folder, readme), "utf8"))?.[1];
  if (!section) throw new BuildError(`Cannot find the licence of "${folder}"`);
  return section;
}
