/** Regions as a Linux 6.12 listed them in /proc/kcore, whose vmemmap_base and page_offset_base were known. */
import { expect, test } from "bun:test";
import { memoryMap, readMemoryMap, readRegions, type Region } from "../../lib/sys/memory_map.ts";

const regions: Region[] = [
  { virtual: 0xffffffff83a00000n, physical: 0x1d200000n, size: 0x2c30000n }, // the kernel's text
  { virtual: 0xff7a550480000000n, physical: -1n, size: 0x31ffffffffffffn }, // vmalloc
  { virtual: 0xffffffffc0000000n, physical: -1n, size: 0x3f000000n }, // modules
  { virtual: 0xff2cb93b00001000n, physical: 0x1000n, size: 0x9e000n },
  { virtual: 0xffb3112800000000n, physical: -1n, size: 0x3000n },
  { virtual: 0xff2cb93b00100000n, physical: 0x100000n, size: 0xbfee0000n },
  { virtual: 0xffb3112800004000n, physical: -1n, size: 0x2ffc000n },
];

const pages = { structPageBytes: 64, pageBytes: 4096 };

test("The direct map and the array of struct page", () => {
  expect(memoryMap(regions, pages)).toEqual({
    directMap: 0xff2cb93b00000000n,
    pageArray: 0xffb3112800000000n,
    ...pages,
  });
});

test.each<[name: string, given: Region[]]>([
  ["no regions", []],
  ["no memory", regions.filter(({ physical }) => physical < 0n)],
  ["no array of pages", regions.filter(({ virtual }) => virtual >> 40n !== 0xffb311n)],
])("Nothing is guessed: %s", (_, given) => {
  expect(memoryMap(given, pages)).toBeUndefined();
});

test("A file that is no ELF file, or cut, is refused", () => {
  expect(() => readRegions(new Uint8Array(64))).toThrow("This is no ELF file");
  expect(() => readRegions(new Uint8Array(3))).toThrow(RangeError);
});

test("Where it may not be read there is none", () => {
  expect(readMemoryMap(64, "/no/such/file")).toBeUndefined();
});
