/** Bad addresses are found, the rest gets one link, and the search gives up in time. */
import { expect, test } from "bun:test";
import type { ProgramSpec } from "../../asm/code.ts";
import { ret } from "../../asm/insn.ts";
import { attachKprobeMultiWherePossible, findRefused } from "../../lib/link/kprobe_multi.ts";
import { Program } from "../../lib/sys/program.ts";
import { fakeKernel, memory } from "../sys/fake_kernel.ts";

const spec: ProgramSpec = { name: "t", type: 2, expectedAttachType: 42, license: "GPL", code: ret(0) };

test.each<[length: number, bad: readonly number[], mostQuestions: number]>([
  [1, [0], 0],
  [2, [1], 1],
  [8, [0], 6],
  [8, [7], 3],
  [8, [0, 7], 9],
  [5, [0, 1, 2, 3, 4], 8],
  [1600, [800], 22],
  [1600, [3, 700, 1599], 60],
])("of %i, %p are bad: at most %i questions", (length, bad, mostQuestions) => {
  const addresses = BigUint64Array.from({ length }, (_, index) => BigInt(index));
  let questions = 0;
  const refused = findRefused(addresses, (part) => {
    questions++;
    return !bad.some((index) => part.includes(BigInt(index)));
  });
  expect(refused).toEqual(bad);
  expect(questions).toBeLessThanOrEqual(mostQuestions);
});

test.each<[questions: number, left: number[]]>([[2, []], [4, [0]], [6, [0, 2, 3, 4, 5, 6, 7]]])(
  "Where only %i questions can be asked, what may be bad is left out",
  (questions, left) => {
    const addresses = BigUint64Array.from({ length: 16 }, (_, index) => BigInt(index));
    const refused = findRefused(addresses, (part) => questions-- > 0 ? !part.includes(1n) : undefined);
    expect([...addresses.keys()].filter((index) => !refused.includes(index))).toEqual(left);
  },
);

/** A kernel that dislikes odd addresses; fds count from 100. */
function pickyKernel(errno = -22) {
  const links = new Map<number, bigint[]>(), open = new Set<number>();
  let next = 100;
  const kernel = fakeKernel(({ name, args: [command, attr = 0] }) => {
    if (name === "close") {
      open.delete(command as number);
      return 0;
    }
    if (command === 28) {
      const view = memory(attr, 48), count = view.getUint32(20, true);
      const list = memory(Number(view.getBigUint64(32, true)), count * 8);
      const addresses = Array.from({ length: count }, (_, index) => list.getBigUint64(index * 8, true));
      if (addresses.some((address) => address & 1n)) return errno;
      links.set(next, addresses);
    }
    open.add(next);
    return next++;
  });
  return { links, open, kernel, [Symbol.dispose]: () => kernel[Symbol.dispose]() };
}

test("A good list takes one call", () => {
  using picky = pickyKernel();
  const { link, refused, trials } = attachKprobeMultiWherePossible(new Program(spec, 7), {
    addresses: BigUint64Array.of(2n, 4n),
  });
  expect([link?.fd, refused, trials, picky.kernel.calls.length]).toEqual([100, [], [], 1]);
});

test("Bad ones are left out, cookies stay with their addresses, trials are handed over", () => {
  using picky = pickyKernel();
  const addresses = BigUint64Array.of(2n, 3n, 4n, 6n, 9n),
    cookies = BigUint64Array.of(20n, 30n, 40n, 60n, 90n);
  const { link, refused, trials } = attachKprobeMultiWherePossible(new Program(spec, 7), {
    addresses,
    cookies,
  });
  expect(refused).toEqual([1, 4]);
  expect(picky.links.get(link?.fd as number)).toEqual([2n, 4n, 6n]);
  expect(trials.length).toBeGreaterThan(0);
  for (const trial of trials) trial[Symbol.dispose]();
  expect([...picky.open]).toEqual([link?.fd as number]);
});

test("Nothing but bad ones: no link", () => {
  using picky = pickyKernel(-2);
  const { link, refused } = attachKprobeMultiWherePossible(new Program(spec, 7), {
    addresses: BigUint64Array.of(1n, 3n, 5n),
  });
  expect([link, refused, picky.open.size]).toEqual([undefined, [0, 1, 2], 0]);
});

test("Too many bad ones: those that were found good, and no more questions", () => {
  using picky = pickyKernel(-2);
  const addresses = BigUint64Array.from({ length: 1000 }, (_, index) => BigInt(index));
  const { link, refused, trials } = attachKprobeMultiWherePossible(new Program(spec, 7), { addresses });
  const good = picky.links.get(link!.fd)!;
  expect(good.length).toBeGreaterThan(100);
  expect(good.length + refused.length).toBe(1000);
  for (const closing of [link!, ...trials]) closing[Symbol.dispose]();
  expect(picky.open.size).toBe(0);
  expect(picky.kernel.calls.filter(({ args }) => args[0] === 28).length).toBe(1 + 512 + 1);
});

test("A kernel without kprobe_multi is no reason to search", () => {
  using picky = pickyKernel(-95);
  const addresses = BigUint64Array.of(1n, 3n);
  expect(() => attachKprobeMultiWherePossible(new Program(spec, 7), { addresses })).toThrow("EOPNOTSUPP");
  expect(picky.kernel.calls.length).toBe(1);
});
