/** What the launcher of a static file leaves behind is forgotten, and nothing else. */
import { expect, test } from "bun:test";
import { closeSync, fstatSync, openSync } from "node:fs";
import { forgetLauncher } from "../../lib/sys/launched.ts";

test("The variable goes, and the files it names are closed", () => {
  const fds = [openSync("/dev/null", "r"), openSync("/dev/null", "r")];
  const env = { A: "1", LD_PRELOAD: fds.map((fd) => `/proc/self/fd/${fd}`).join(":") };
  forgetLauncher(env);
  expect(env as object).toEqual({ A: "1" });
  for (const fd of fds) expect(() => fstatSync(fd)).toThrow("EBADF");
});

const others = [undefined, "", "/lib/libc.so.6", "/proc/self/fd/x", "/proc/self/fd/FD:/lib/libc.so.6"];

test.each(others)("Not ours: %p", (value) => {
  const fd = openSync("/dev/null", "r"), preload = value?.replace("FD", String(fd));
  const env = preload === undefined ? {} : { LD_PRELOAD: preload };
  forgetLauncher(env);
  expect(env).toEqual(preload === undefined ? {} : { LD_PRELOAD: preload });
  closeSync(fd);
});
