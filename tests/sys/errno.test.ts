/** Numbers and names of errno agree with libc's, as far as node:os has them. */
import { expect, test } from "bun:test";
import { constants } from "node:os";
import { errno, errnoName } from "../../lib/sys/errno.ts";

test.each(Object.entries(constants.errno))("%s is %i", (name, number) => {
  const alias = name === "EWOULDBLOCK" || name === "EOPNOTSUPP" || name === "ENOTSUP";
  if (!alias) expect(errnoName(number)).toBe(name);
  if (!alias) expect(errno[name]).toBe(number);
});

test("Numbers have one name each", () => {
  expect(new Set(Object.values(errno)).size).toBe(Object.keys(errno).length);
  for (const [name, number] of Object.entries(errno)) expect(errnoName(number)).toBe(name);
});

test.each<[number, string]>([[95, "EOPNOTSUPP"], [524, "ENOTSUPP"], [41, "errno 41"], [4095, "errno 4095"]])(
  "%i reads %s",
  (number, name) => {
    expect(errnoName(number)).toBe(name);
  },
);
