import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { elfSection, isElf } from "../../lib/btf/elf.ts";
import { loadKernelBtf, loadModuleBtf, modulesWithBtf } from "../../lib/btf/load.ts";
import { BTF_KIND } from "../../lib/btf/parse.ts";
import { BtfError, UnsupportedError, UsageError } from "../../lib/errors.ts";
import { BtfBuilder } from "./builder.ts";

const directory = mkdtempSync(`${tmpdir()}/pwru-btf-`);
afterAll(() => rmSync(directory, { recursive: true }));

/** A little-endian ELF64 file with these sections and nothing else. */
function elf(sections: [name: string, data: Uint8Array][]): Uint8Array {
  const all: [string, Uint8Array][] = [["", new Uint8Array()], ...sections, [".shstrtab", new Uint8Array()]];
  const names = Buffer.from(all.map(([name]) => `${name}\0`).join(""));
  all.at(-1)![1] = names;
  const out = new Uint8Array(64 + all.reduce((sum, [, data]) => sum + data.length, 0) + 64 * all.length);
  const view = new DataView(out.buffer);
  out.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 1, true); // ET_REL
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  let at = 64, name = 0;
  const headers = out.length - 64 * all.length;
  view.setBigUint64(40, BigInt(headers), true);
  [64, 0, 0, 64, all.length, all.length - 1].forEach((word, i) => view.setUint16(52 + 2 * i, word, true));
  all.forEach(([text, data], i) => {
    const header = headers + 64 * i;
    out.set(data, at);
    view.setUint32(header, name, true);
    view.setUint32(header + 4, i === 0 ? 0 : text === ".shstrtab" ? 3 : 1, true);
    view.setBigUint64(header + 24, BigInt(at), true);
    view.setBigUint64(header + 32, BigInt(data.length), true);
    at += data.length;
    name += text.length + 1;
  });
  return out;
}

function blob(): BtfBuilder {
  const b = new BtfBuilder();
  b.struct("sk_buff", 4, [["len", b.int("unsigned int", 4), 0]]);
  return b;
}
const file = (name: string, data: Uint8Array | string) => {
  writeFileSync(`${directory}/${name}`, data);
  return `${directory}/${name}`;
};

describe("ELF files", () => {
  const image = elf([[".text", new Uint8Array(7)], [".BTF", blob().build()]]);
  test("a section is found by name", () => {
    expect(isElf(image)).toBe(true);
    expect(elfSection(image, ".BTF")).toEqual(blob().build());
    expect(elfSection(image, ".bss")).toBeUndefined();
  });
  test("damage is a BtfError", () => {
    for (const length of [5, 20, 63, 80]) {
      expect(() => elfSection(image.slice(0, length), ".BTF")).toThrow(BtfError);
    }
    const wide = image.slice();
    new DataView(wide.buffer).setUint32(wide.length - 128 + 32, 1e9, true); // the size of .BTF
    expect(() => elfSection(wide, ".BTF")).toThrow(BtfError);
  });
});

describe("the kernel's types", () => {
  test("come from a named blob or ELF file", () => {
    const raw = loadKernelBtf({ file: file("raw", blob().build()) });
    const inElf = loadKernelBtf({ file: file("image", elf([[".BTF", blob().build()]])) });
    for (const btf of [raw, inElf]) expect(btf.find("sk_buff", BTF_KIND.STRUCT)).toBe(2);
  });
  test("or from the first place that has them", () => {
    file("installed", elf([[".BTF", blob().build()]]));
    const candidates = [`${directory}/missing`, `${directory}/installed`];
    expect(loadKernelBtf({ directory: `${directory}/none`, candidates }).endId).toBe(3);
  });
  test("or are missing, with a hint", () => {
    try {
      loadKernelBtf({ directory: `${directory}/none`, candidates: [] });
    } catch (error) {
      expect(error).toBeInstanceOf(UnsupportedError);
      expect((error as UnsupportedError).message).toBe(
        `Cannot find the kernel's BTF: there is no ${directory}/none/vmlinux`,
      );
      expect((error as UnsupportedError).hint).toContain("CONFIG_DEBUG_INFO_BTF=y");
    }
    expect.assertions(3);
  });
  test.each<[why: string, path: () => string, message: string]>([
    ["no file", () => `${directory}/nothing`, '/nothing": ENOENT'],
    ["a directory", () => directory, '": EISDIR'],
    ["text", () => file("text", "hello, this is no kernel at all"), "it starts with 0x6568"],
    ["ELF without types", () => file("empty", elf([[".text", new Uint8Array(4)]])), "it has no .BTF section"],
    [
      "a module",
      () => file("mod.ko", elf([[".BTF", blob().build()], [".BTF.base", blob().build()]])),
      "it is a module",
    ],
  ])("%s is refused", (_why, path, message) => {
    expect(() => loadKernelBtf({ file: path() })).toThrow(message);
  });
});

describe("modules", () => {
  const base = loadKernelBtf({ file: file("vmlinux", blob().build()) });
  const sys = `${directory}/sys`;
  mkdirSync(`${sys}/directory`, { recursive: true });
  const m = new BtfBuilder(base);
  m.struct("mine", 8, [["skb", m.ptr(2), 0]]);
  writeFileSync(`${sys}/nf_nat`, m.build());
  writeFileSync(`${sys}/bad`, "text");
  writeFileSync(`${sys}/vmlinux`, blob().build());

  test("are listed without the kernel itself", () => {
    expect(modulesWithBtf(sys)).toEqual(["bad", "nf_nat"]);
    expect(() => modulesWithBtf(`${sys}/none`)).toThrow(UnsupportedError);
  });
  test("continue the kernel's types; a dash is an underscore", () => {
    const module = loadModuleBtf("nf-nat", base, sys);
    expect([module.name, module.find("mine", BTF_KIND.STRUCT), module.find("sk_buff", BTF_KIND.STRUCT)])
      .toEqual([
        "nf_nat",
        4,
        2,
      ]);
  });
  test.each<[name: string, message: string]>([
    ["missing", 'for module "missing": is it loaded, and built with BTF'],
    ["../sys/nf_nat", '"../sys/nf_nat" is no module name'],
    ["vmlinux", '"vmlinux" is no module name'],
    ["", '"" is no module name'],
    ["bad", "Cannot read the BTF of bad: 4 bytes are no header"],
  ])("%p is refused", (name, message) => {
    expect(() => loadModuleBtf(name, base, sys)).toThrow(message);
  });
  test("a wrong name is the user's error", () => {
    expect(() => loadModuleBtf("missing", base, sys)).toThrow(UsageError);
  });
});
