/** ftrace that is switched off: functions could be attached to, and would never be seen. */
import { expect, test } from "bun:test";
import { UnsupportedError } from "../../lib/errors.ts";
import { requireFtrace } from "../../lib/trace/backends/kprobe_multi.ts";

test.each<[setting: string, refused: boolean]>([
  ["0\n", true],
  ["1\n", false],
  ["", false],
])("kernel.ftrace_enabled is %j", (setting, refused) => {
  let error: unknown;
  try {
    requireFtrace(setting);
  } catch (thrown) {
    error = thrown;
  }
  expect(error instanceof UnsupportedError).toBe(refused);
  if (refused) expect((error as UnsupportedError).hint).toBe("sysctl -w kernel.ftrace_enabled=1");
});
