/** Dead code goes, everything else stays in its order. */
import { expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import { type Code, label } from "../../asm/code.ts";
import { withoutDeadCode } from "../../asm/dead_code.ts";
import { call, callLocal, exit, gotol, ja, jeq, ldFunction, mov, r0, r1, ret } from "../../asm/insn.ts";

const over = label("over"), back = label("back"), callee = label("callee"), forever = label("forever");

test.each<[name: string, code: Code, kept: Code]>([
  ["nothing to remove", ret(0), ret(0)],
  ["after exit", [ret(0), mov(r0, 1)], ret(0)],
  ["after a jump", [ja(over), mov(r0, 1), over, ret(0)], [ja(over), over, ret(0)]],
  ["after a long jump", [gotol(over), mov(r0, 1), over, ret(0)], [gotol(over), over, ret(0)]],
  ["a branch keeps both sides", [jeq(r1, 0, over), ret(1), over, ret(0)], [
    jeq(r1, 0, over),
    ret(1),
    over,
    ret(0),
  ]],
  ["a label only dead code jumps to", [ret(0), ja(over), over, mov(r0, 2), exit()], [ret(0), over]],
  ["a helper call goes on", [call("bpf_ktime_get_ns"), ret(0)], [call("bpf_ktime_get_ns"), ret(0)]],
  ["a function that is called", [callLocal(callee), exit(), callee, ret(1)], [
    callLocal(callee),
    exit(),
    callee,
    ret(1),
  ]],
  ["a callback", [ldFunction(r1, callee), exit(), callee, ret(1)], [
    ldFunction(r1, callee),
    exit(),
    callee,
    ret(1),
  ]],
  ["backwards", [ja(over), back, ret(0), over, ja(back)], [ja(over), back, ret(0), over, ja(back)]],
  ["a loop ends", [forever, ja(forever), ret(0)], [forever, ja(forever)]],
])("%s", (_, code, kept) => {
  expect(assemble(withoutDeadCode(code)).bytes).toEqual(assemble(kept).bytes);
});
