import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { UnsupportedError } from "../../lib/errors.ts";
import { ftraceSource, parseFtraceList, readFtraceList } from "../../lib/symbols/ftrace.ts";
import { symbolText } from "../../lib/symbols/table.ts";

const directory = mkdtempSync(`${tmpdir()}/pwru-ftrace-`);
afterAll(() => rmSync(directory, { recursive: true }));

const names = `__traceiter_initcall_level
ip_rcv
__ftrace_invalid_address___256
__pim_rcv.constprop.0
cleanup
cleanup
udp_sock_create4 [udp_tunnel]
`;
const withAddresses = `ffffffff8a602014 __traceiter_initcall_level
ffffffff8a603004 ip_rcv
ffffffffc054f014 udp_sock_create4 [udp_tunnel]
`;
const texts = (list: ReturnType<typeof parseFtraceList>) =>
  Array.from({ length: list.table.size }, (_, row) => symbolText(list.table.symbol(row)));

test("names, modules and repeated names", () => {
  const list = parseFtraceList([Buffer.from(names)], false);
  expect(texts(list)).toEqual([
    "__traceiter_initcall_level",
    "ip_rcv",
    "__pim_rcv.constprop.0",
    "cleanup",
    "cleanup",
    "udp_sock_create4[udp_tunnel]",
  ]);
  expect(list.hasAddresses).toBe(false);
  expect(list.table.rowsNamed("cleanup")).toEqual([3, 4]);
});

test("addresses where the kernel gives them", () => {
  const list = parseFtraceList([Buffer.from(withAddresses)], true);
  expect(list.hasAddresses).toBe(true);
  expect(list.table.addresses("udp_sock_create4", "udp_tunnel")).toEqual([0xffffffffc054f014n]);
});

test("hidden addresses are as good as none", () => {
  expect(parseFtraceList([Buffer.from("0000000000000000 ip_rcv\n")], true).hasAddresses).toBe(false);
});

test("the list with addresses is preferred, then either place of tracefs", () => {
  const [tracing, debug] = [`${directory}/tracing`, `${directory}/debug`];
  mkdirSync(debug);
  const directories = [tracing, debug];
  expect(readFtraceList({ directories })).toBeUndefined();
  writeFileSync(`${debug}/available_filter_functions`, names);
  expect(readFtraceList({ directories })).toMatchObject({ hasAddresses: false });
  writeFileSync(`${debug}/available_filter_functions_addrs`, withAddresses);
  expect(readFtraceList({ directories })).toMatchObject({ hasAddresses: true });
  expect(readFtraceList({ directories, addresses: false })).toMatchObject({ hasAddresses: false });
});

test("a list that may not be read is an error with a hint", () => {
  mkdirSync(`${directory}/odd/available_filter_functions`, { recursive: true });
  expect(() => readFtraceList({ directories: [`${directory}/odd`] })).toThrow(UnsupportedError);
  expect(() => readFtraceList({ directories: [`${directory}/odd`] })).toThrow(
    "available_filter_functions: EISDIR",
  );
});

test("the list is read once, at once where it has addresses", async () => {
  const names = `${directory}/source`, file = `${names}/available_filter_functions`;
  mkdirSync(names);
  writeFileSync(file, "ip_rcv\n");
  const later = ftraceSource({ directories: [names] });
  expect(later.atHand).toBe(false);
  writeFileSync(file, "ip_rcv\nip_output\n");
  expect((await later.read())?.table.size).toBe(2);
  expect(await later.read()).toBe(await later.read());
  writeFileSync(`${file}_addrs`, "ffffffff81000000 ip_rcv\n");
  const early = ftraceSource({ directories: [names] });
  expect([early.atHand, (await early.read())?.hasAddresses]).toEqual([true, true]);
});
