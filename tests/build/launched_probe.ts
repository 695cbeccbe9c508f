/** A program for static.test.ts, compiled and merged as main.ts is: tells what a child of it would inherit. */
import { readdirSync, readlinkSync } from "node:fs";
import { forgetLauncher } from "../../lib/sys/launched.ts";

forgetLauncher();
const links = readdirSync("/proc/self/fd").flatMap((fd) => {
  try {
    return [readlinkSync(`/proc/self/fd/${fd}`)];
  } catch {
    return []; // the folder itself, closed by now
  }
});
const script = "tr '\\0' '\\n' < /proc/self/environ; ls -l /proc/self/fd";
const child = Bun.spawnSync(["/bin/sh", "-c", script], { env: process.env });
console.log(JSON.stringify({
  env: process.env,
  libraries: links.filter((link) => link.includes(".so")),
  child: child.stdout.toString(),
  execPath: process.execPath,
}));
