/** The running kernel's own types. Needs no rights; without them the tests are skipped by name. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { BTF_DIRECTORY, loadKernelBtf, loadModuleBtf, modulesWithBtf } from "../../lib/btf/load.ts";
import { type Btf, BTF_KIND } from "../../lib/btf/parse.ts";
import { pointerArgument, rawTracepoints } from "../../lib/btf/tracepoints.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { enumerators, isComposite, members, parameters, sizeOf, typeText } from "../../lib/btf/walk.ts";

describe.skipIf(!existsSync(`${BTF_DIRECTORY}/vmlinux`))(
  "BTF of the running kernel (5.2, CONFIG_DEBUG_INFO_BTF)",
  () => {
    const btf = loadKernelBtf(), types = new BtfTypes(btf);

    test.each<[struct: string, path: string, type: string]>([
      ["sk_buff", "len", "u32"],
      ["sk_buff", "tail", "u32"],
      ["sk_buff", "head", "u64"],
      ["sk_buff", "dev", "u64"],
      ["sk_buff", "mark", "u32"],
      ["sk_buff", "protocol", "u16"],
      ["sk_buff", "mac_header", "u16"],
      ["sk_buff", "network_header", "u16"],
      ["sk_buff", "mac_len", "u16"],
      ["sk_buff", "cb", "u8[48]"],
      ["net_device", "ifindex", "s32"],
      ["net_device", "nd_net.net", "u64"],
      ["net", "ns.inum", "u32"],
      ["sock", "__sk_common.skc_net.net", "u64"],
    ])("%s.%s is a %s inside it", (struct, path, type) => {
      const field = types.field(struct, path);
      expect(field.type.name).toBe(type);
      expect(field.offset + field.type.size).toBeLessThanOrEqual(sizeOf(btf, types.structId(struct)!));
    });

    test("bitfields share their byte", () => {
      const { offset, shift, bits } = types.bitField("sk_buff", "pkt_type");
      expect([offset, shift, bits]).toEqual([types.field("sk_buff", "__pkt_type_offset").offset, 0, 3]);
    });

    test("every type can be walked and written", () => {
      const walk = (blob: Btf) => {
        for (let id = blob.firstId; id < blob.endId; id++) {
          const kind = blob.kind(id);
          typeText(blob, id);
          if (isComposite(kind)) {
            const bits = blob.sizeOrType(id) * 8;
            for (const { type, bitOffset, bitSize } of members(blob, id)) {
              if (bitOffset + (bitSize || sizeOf(blob, type) * 8) > bits) throw new Error(typeText(blob, id));
            }
          }
          if (kind === BTF_KIND.FUNC) { for (const { type } of parameters(blob, id)) blob.kind(type); }
          if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) {
            for (const [name] of enumerators(blob, id)) {
              name.at(0);
            }
          }
        }
      };
      walk(btf);
      for (const name of modulesWithBtf()) walk(loadModuleBtf(name, btf));
    }, 30_000);

    test("the drop reasons have names", () => {
      const names = types.enumNames("skb_drop_reason");
      if (names.size === 0) return; // before Linux 5.17
      expect(names.get(0)).toBe("SKB_NOT_DROPPED_YET");
      expect([...names.values()]).toContain("SKB_DROP_REASON_NO_SOCKET");
    });

    test("the tracepoints that carry an skb are found", () => {
      const found = [...rawTracepoints(btf)].filter((tracepoint) =>
        pointerArgument(tracepoint, "sk_buff") !== undefined
      );
      const names = found.map(({ name }) => name);
      for (const name of ["kfree_skb", "consume_skb", "netif_receive_skb", "net_dev_queue", "netif_rx"]) {
        expect(names).toContain(name);
      }
      const drop = found.find(({ name }) => name === "kfree_skb")!;
      expect(drop.arguments[pointerArgument(drop, "sk_buff")!]!.name).toBe("skb");
    });
  },
);
