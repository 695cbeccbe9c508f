/** docs/event.schema.json, as what a line of JSON output must satisfy. */
import Ajv2020 from "ajv/dist/2020.js";
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

interface Properties {
  /** #/$defs/NAME */
  readonly $ref?: string;
  /** any name will do */
  readonly additionalProperties?: object;
  readonly properties: Readonly<Record<string, Partial<Properties>>>;
}

const schema: { readonly $defs: Readonly<Record<string, Partial<Properties>>> } = JSON.parse(
  readFileSync(join(import.meta.dir, "../../docs/event.schema.json"), "utf8"),
);
const ajv = new Ajv2020({ strict: true, strictTypes: false, allErrors: true }).addSchema(schema, "line");
const validateLine = ajv.getSchema("line")!;

/** The part of the schema for lines of this type: events have the type of their probe. */
const kindOf = (type: string): string => type === "kprobe" || type === "tracepoint" ? "event" : type;

/** Fields that the schema does not describe. Readers must put up with them, we must not print them. */
function undescribed(value: object, { properties = {} }: Partial<Properties>): string[] {
  if (Array.isArray(value)) return []; // of plain values
  return Object.entries(value).flatMap(([name, field]) => {
    const known = properties[name];
    if (known === undefined) return [name];
    if (known.additionalProperties !== undefined) return [];
    const shape = schema.$defs[/^#\/\$defs\/(\w+)$/.exec(known.$ref ?? "")?.[1] ?? ""] ?? known;
    return typeof field === "object" && field !== null ? undescribed(field, shape) : [];
  });
}

/** The object in `line`, which is as the schema says, in plain ASCII, and of one line. */
export function validLine(line: string): Record<string, unknown> {
  expect(line).toMatch(/^[ -~]+$/);
  const object = JSON.parse(line), kind = kindOf(object.type);
  // By its own part first, whose complaints say what is wrong; the whole then says that no other part takes it.
  const validate = ajv.getSchema(`line#/$defs/${kind}`);
  expect({ line, known: validate !== undefined }).toEqual({ line, known: true });
  validate!(object);
  expect({ line, errors: validate!.errors ?? [], undescribed: undescribed(object, schema.$defs[kind]!) })
    .toEqual({ line, errors: [], undescribed: [] });
  expect({ line, valid: validateLine(object) }).toEqual({ line, valid: true });
  return object;
}

/** The same, of a line that must be an event. */
export function validEvent(line: string): Record<string, unknown> {
  const object = validLine(line);
  expect({ line, kind: kindOf(object["type"] as string) }).toEqual({ line, kind: "event" });
  return object;
}
