import { expect, test } from "bun:test";
import { Log } from "../../lib/cli/log.ts";

function captured({ isTerminal = false, debug = false } = {}) {
  let text = "";
  const clock = { now: new Date(2026, 7, 21, 10, 15, 30) };
  const log = new Log({ debug }, { write: (part) => void (text += part), isTerminal, now: () => clock.now });
  return {
    log,
    clock,
    take: () => {
      const taken = text;
      text = "";
      return taken;
    },
  };
}

test("lines are those of Go's default logger", () => {
  const { log, take } = captured({ debug: true });
  log.info("Attaching kprobes", { via: "kprobe-multi" });
  log.warn("Some functions are not traced", { ignored: 12, error: 'a "b"', empty: "", control: "\x1b[m" });
  log.debug("Read kernel types", { ms: 1.5 });
  expect(take().split("\n")).toEqual([
    "2026/08/21 10:15:30 INFO Attaching kprobes via=kprobe-multi",
    '2026/08/21 10:15:30 WARN Some functions are not traced ignored=12 error="a \\"b\\"" empty="" control="\\u001b[m"',
    "2026/08/21 10:15:30 DEBUG Read kernel types ms=1.5",
    "",
  ]);
});

test("debug lines only when asked for", () => {
  const { log, take } = captured();
  log.debug("Read kernel types");
  expect(take()).toBe("");
});

test("progress is for terminals", () => {
  const { log, take } = captured();
  log.progress(1, 2, "Attaching");
  log.info("Attached");
  expect(take()).toBe("2026/08/21 10:15:30 INFO Attached\n");
});

test("progress is painted ten times a second, and the next line replaces it", () => {
  const { log, take, clock } = captured({ isTerminal: true });
  log.progress(1, 1500, "Attaching");
  log.progress(2, 1500, "Attaching");
  clock.now = new Date(clock.now.getTime() + 100);
  log.progress(300, 1500, "Attaching");
  log.print("error: x\n");
  log.clearProgress();
  expect(take()).toBe("\r\x1b[KAttaching 1 of 1500\r\x1b[KAttaching 300 of 1500\r\x1b[Kerror: x\n");
});
