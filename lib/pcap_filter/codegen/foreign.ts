/** Keywords of link types that we do not have: they are checked, then refused. */
import type { WlanNode } from "../ast.ts";
import { pfActions, pfReasons, type PfWord, wlanDirections, wlanTypes } from "../tables.ts";
import { fail, type State } from "./state.ts";

/** Frame control bits of type and subtype. */
const typeMask = 0x0c, subtypeMask = 0xf0;

/** 802.11 `type`, `subtype` and `dir` operands. */
export function checkWlanOperand(state: State, { operand, value, type }: WlanNode): void {
  const hex = (digits: number) => `0x${Number(value).toString(16).padStart(digits, "0")}`;
  const name = typeof value === "string" ? value.toLowerCase() : undefined;
  switch (operand) {
    case "type":
      if (name === undefined) {
        if (outside(value, typeMask)) fail(state, `invalid 802.11 type value ${hex(2)}`);
      } else if (!wlanTypes.some((row) => row.names.includes(name))) {
        fail(state, `unknown 802.11 type name "${value}"`);
      }
      return;
    case "subtype": {
      if (name === undefined) {
        if (outside(value, subtypeMask)) fail(state, `invalid 802.11 subtype value ${hex(2)}`);
        return;
      }
      const row = wlanTypes.find((row) =>
        typeof type === "number" ? row.value === type : row.names.includes(String(type).toLowerCase())
      );
      if (row === undefined) fail(state, "unknown 802.11 type");
      if (!row.subtypes.includes(name)) fail(state, `unknown 802.11 subtype name "${value}"`);
      return;
    }
    case "lone subtype":
      if (!wlanTypes.some((row) => row.subtypes.includes(name!))) fail(state, "unknown 802.11 type name");
      return;
    case "direction":
      if (name === undefined) {
        if (Number(value) > 3) fail(state, `invalid 802.11 direction value ${hex(1)}`);
      } else if (!wlanDirections.includes(name)) {
        fail(state, "unknown 802.11 direction");
      }
      return;
  }
}

function outside(value: number | string, mask: number): boolean {
  return (Number(value) & ~mask) !== 0;
}

/** OpenBSD packet filter log. */
export function packetFilterLog(state: State, keyword: PfWord, name: string | undefined): never {
  if (name !== undefined) {
    const known = name.toLowerCase();
    if (keyword === "reason" && !pfReasons.includes(known)) fail(state, `unknown PF reason "${name}"`);
    if (keyword === "action" && !pfActions.includes(known)) fail(state, `unknown PF action "${name}"`);
  }
  fail(state, `'${keyword}' supported only on PFLOG linktype`);
}
