/** Which parts of the process may be dropped: code, never data that has been written. */
import { expect, test } from "bun:test";
import { codeMappings, releaseMemory } from "../../lib/sys/memory.ts";

const maps = `00200000-012a6000 r--p 00000000 fe:00 7 /usr/bin/pwru
012a6000-03bd5000 r-xp 010a5000 fe:00 7 /usr/bin/pwru
03bd5000-03d00000 r--p 039d3000 fe:00 7 /usr/bin/pwru
03d00000-03e00000 rw-p 03aff000 fe:00 7 /usr/bin/pwru
7f0000000000-7f0000001000 r-xp 00000000 fe:00 8 /usr/lib/libc.so.6
7f0000002000-7f0000003000 r-xp 00000000 00:00 0
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
`;

test("Only executable mappings of the file itself", () => {
  expect(codeMappings(maps, "/usr/bin/pwru")).toEqual([{ start: 0x012a6000, length: 0x0292f000 }]);
  expect(codeMappings(maps, "/usr/bin/other")).toEqual([]);
});

test("The process goes on afterwards, and answers the same", () => {
  const before = JSON.stringify(codeMappings(maps, "/usr/bin/pwru"));
  releaseMemory();
  expect(JSON.stringify(codeMappings(maps, "/usr/bin/pwru"))).toBe(before);
});
