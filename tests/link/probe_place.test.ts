import { expect, test } from "bun:test";
import { entriesBefore, firingPlaces, firstPlace, nextPlace } from "../../lib/link/probe_place.ts";

/** Offsets from the address in the order in which they are tried when the kernel answers with these codes. */
function places(
  codes: string[],
  { arch = "x64", recordAddresses = false, entryOnly = false } = {},
): number[] {
  const address = 0x1000n, rules = { arch, recordAddresses }, tried: number[] = [];
  let place: bigint | undefined = firstPlace(address, rules, entryOnly);
  for (const code of [...codes, ""]) {
    if (place === undefined) break;
    tried.push(Number(place - address));
    place = nextPlace(address, rules, place, code);
  }
  return tried.slice(0, codes.length + 1);
}

const records = { recordAddresses: true };

test.each<[what: string, tried: number[], offsets: number[]]>([
  ["accepted behind the nop", places([]), [5]],
  ["starts with endbr64", places(["EILSEQ"]), [5, 9]],
  ["endbr64, then a jump label", places(["EILSEQ", "EINVAL"]), [5, 9, 0]],
  ["endbr64, then no instruction starts there either", places(["EILSEQ", "EILSEQ"]), [5, 9, 0]],
  ["a jump label behind the nop", places(["EINVAL"]), [5, 0]],
  ["refused everywhere", places(["EINVAL", "EINVAL"]), [5, 0]],
  ["no place would help", places(["ENOMEM"]), [5]],
  ["record", places([], records), [5]],
  ["record, refused behind it", places(["EILSEQ", "EINVAL"], records), [5, 0]],
  ["livepatched", places(["EINVAL"], { entryOnly: true }), [0]],
  ["arm64", places(["EINVAL"], { arch: "arm64" }), [0]],
  ["arm64, record", places(["EINVAL"], { arch: "arm64", ...records }), [-4]],
])("%s", (_, tried, offsets) => {
  expect(tried).toEqual(offsets);
});

test.each<[what: string, rules: { arch: string; recordAddresses: boolean }, place: bigint, fires: bigint[]]>([
  ["behind the nop", { arch: "x64", recordAddresses: false }, 0x1005n, [0x1005n]],
  ["at the entry", { arch: "x64", recordAddresses: false }, 0x1000n, [0x1000n, 0x1004n]],
  ["on the record", { arch: "x64", recordAddresses: true }, 0x1000n, [0x1000n]],
  ["at the entry, arm64", { arch: "arm64", recordAddresses: false }, 0x1000n, [0x1000n]],
])("A probe %s may fire there", (_, rules, place, fires) => {
  expect(firingPlaces(0x1000n, rules, place)).toEqual(fires);
});

test.each<[arch: string, entries: bigint[]]>([
  ["x64", [0x1000n, 0xffcn]],
  ["arm64", [0x1000n, 0xffcn, 0xff8n]],
])("%s: what begins where a record lies, or before it", (arch, entries) => {
  expect(entriesBefore(0x1000n, arch)).toEqual(entries);
});
