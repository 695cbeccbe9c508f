import { expect, test } from "bun:test";
import {
  formatDefinition,
  formatDeletion,
  parseListing,
  sumMisses,
} from "../../lib/link/probe_definition.ts";

test("A definition is one line with the address in full", () => {
  const definition = { group: "pwru_7_50", event: "e3", address: 0xffffffff81a2b3c5n, index: 17 };
  expect(formatDefinition(definition)).toBe("p:pwru_7_50/e3 0xffffffff81a2b3c5 i=\\17:u32\n");
});

test("Only lines of our shape and our groups are ours, and each is deleted by its own words", () => {
  const listing = [
    "p:pwru_7_50/e0 0x00000000d34db33f i=\\0:u32",
    "p:kprobes/myprobe do_sys_open+0",
    "p:pwru_7_50/e1 0x00000000d34db340 i=\\1:u32",
    "p:pwru_mine/e0 0x00000000d34db33f i=\\0:u32",
    "p:pwru_7_50/by_hand vfs_read",
    "r4:pwru_7_50/e0 0x00000000d34db33f i=\\0:u32",
    "-:pwru_7_50/e0 0x00000000d34db33f i=\\0:u32",
    "p:pwru_1_9_4026532177/e0 0xffffffff81a2b3c5 i=\\5:u32",
    "",
  ].join("\n");
  expect(parseListing(listing).map(formatDeletion)).toEqual([
    "-:pwru_7_50/e0 0x00000000d34db33f i=\\0:u32\n",
    "-:pwru_7_50/e1 0x00000000d34db340 i=\\1:u32\n",
    "-:pwru_1_9_4026532177/e0 0xffffffff81a2b3c5 i=\\5:u32\n",
  ]);
});

test("misses of our events, and of nobody else's", () => {
  const text = [
    "  e0_7                                                      12               3",
    "  e0_7                                                       0               4",
    "  e0_8                                                       9              50",
    "  p_vfs_read_0                                  18446744073709551615              60",
    "  e1_7                                                       1 18446744073709551615",
    "",
  ].join("\n");
  expect(sumMisses(text, new Set(["e0_7"]))).toBe(7n);
  expect(sumMisses(text, new Set(["e0_7", "e1_7"]))).toBe(2n ** 64n + 6n);
  expect(sumMisses("", new Set(["e0_7"]))).toBe(0n);
});
