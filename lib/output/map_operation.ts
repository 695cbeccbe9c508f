/** What a function did with a BPF map: taken out of a record, as text and as JSON. */
import { MAP_BYTES, MAP_HAS, type RecordLayout } from "../../bpf-programs/events.ts";
import { printable } from "./bytes.ts";
import { hexdump } from "./hexdump.ts";

export interface ShownMapOperation {
  readonly id: number;
  readonly name: string;
  /** bytes that it has in the map */
  readonly keySize: number;
  /** at most MAP_BYTES of it; undefined: the function has none, or it could not be read */
  readonly key: Uint8Array | undefined;
  readonly valueSize: number;
  readonly value: Uint8Array | undefined;
  /** it looked and there was nothing */
  readonly nothing: boolean;
}

/** Undefined where records have no room for it. */
export function mapOperationReader(
  fields: RecordLayout["fields"],
): ((view: DataView, offset: number) => ShownMapOperation | undefined) | undefined {
  const { mapHas, mapId, mapName, mapKeySize, mapValueSize, mapKey, mapValue } = fields;
  if (mapHas === undefined) return undefined;
  return (view, offset) => {
    const u32 = (field: typeof mapId) => view.getUint32(offset + field!.offset, true);
    const bytes = (field: typeof mapKey, length: number) =>
      new Uint8Array(view.buffer, view.byteOffset + offset + field!.offset, length).slice();
    const has = u32(mapHas), keySize = u32(mapKeySize), valueSize = u32(mapValueSize);
    if ((has & MAP_HAS.map) === 0) return undefined;
    const name = bytes(mapName, mapName!.type.size), end = name.indexOf(0);
    const part = (bit: number, field: typeof mapKey, size: number) =>
      (has & bit) === 0 ? undefined : bytes(field, Math.min(size, MAP_BYTES));
    return {
      id: u32(mapId),
      name: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)),
      keySize,
      key: part(MAP_HAS.key, mapKey, keySize),
      valueSize,
      value: part(MAP_HAS.value, mapValue, valueSize),
      nothing: (has & MAP_HAS.nothing) !== 0,
    };
  };
}

/** Below the line of the function; its last line is ended by whoever ends that one. */
export function mapOperationText(
  { id, name, keySize, key, valueSize, value, nothing }: ShownMapOperation,
): string {
  const part = (title: string, size: number, bytes: Uint8Array | undefined) =>
    bytes === undefined ? "" : `\n${title}(${size}):\n${hexdump(bytes).trimEnd()}`;
  const none = nothing ? `\nvalue(${valueSize}): none` : "";
  return `\nmap_id: ${id}\nmap_name: ${printable(name)}${part("key", keySize, key)}` +
    `${part("value", valueSize, value)}${none}`;
}

/** For `bpf_map` in JSON. */
export function mapOperationJson({ id, name, keySize, key, valueSize, value, nothing }: ShownMapOperation) {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  return {
    id,
    name,
    key_size: keySize,
    value_size: valueSize,
    ...(key === undefined ? {} : { key: hex(key) }),
    ...(value !== undefined ? { value: hex(value) } : nothing ? { value: null } : {}),
  };
}
