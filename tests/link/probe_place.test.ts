import { expect, test } from "bun:test";
import { firstPlace, nextPlace } from "../../lib/link/probe_place.ts";

const entry = 0x1000n;

/** Offsets from the entry in the order in which they are tried when the kernel answers with these codes. */
function places(codes: string[], arch = "x64", ftraceAddress?: bigint, entryOnly = false): number[] {
  const target = { address: entry, ...(ftraceAddress === undefined ? {} : { ftraceAddress }) };
  const tried: number[] = [];
  let place: bigint | undefined = firstPlace(target, arch, entryOnly);
  for (const code of [...codes, undefined]) {
    if (place === undefined) break;
    tried.push(Number(place - entry));
    if (code === undefined) break;
    place = nextPlace(target, place, code);
  }
  return tried;
}

test.each<[what: string, tried: number[], offsets: number[]]>([
  ["accepted behind the nop", places([]), [5]],
  ["starts with endbr64", places(["EILSEQ"]), [5, 9]],
  ["endbr64, then a jump label", places(["EILSEQ", "EINVAL"]), [5, 9, 0]],
  ["endbr64, then no instruction starts there either", places(["EILSEQ", "EILSEQ"]), [5, 9, 0]],
  ["a jump label behind the nop", places(["EINVAL"]), [5, 0]],
  ["refused everywhere", places(["EINVAL", "EINVAL"]), [5, 0]],
  ["no place would help", places(["ENOMEM"]), [5]],
  ["record known, no endbr64", places([], "x64", entry), [5]],
  ["record known, endbr64", places([], "x64", entry + 4n), [9]],
  ["record known, refused", places(["EILSEQ", "EINVAL"], "x64", entry + 4n), [9, 0]],
  ["livepatched", places(["EINVAL"], "x64", entry, true), [0]],
  ["arm64", places(["EINVAL"], "arm64"), [0]],
  ["arm64, record known", places([], "arm64", entry + 4n), [0]],
])("%s", (_, tried, offsets) => {
  expect(tried).toEqual(offsets);
});
