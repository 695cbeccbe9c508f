/** docs/event.schema.json, as what a line of JSON output must satisfy. */
import Ajv2020 from "ajv/dist/2020.js";
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

interface Properties {
  /** #/properties/NAME */
  readonly $ref?: string;
  /** any name will do */
  readonly additionalProperties?: object;
  readonly properties: Readonly<Record<string, Partial<Properties>>>;
}

const schema: Properties = JSON.parse(
  readFileSync(join(import.meta.dir, "../../docs/event.schema.json"), "utf8"),
);
const validate = new Ajv2020({ strict: true, strictTypes: false, allErrors: true }).compile(schema);

/** Fields that the schema does not describe. Readers must put up with them, we must not print them. */
function undescribed(value: object, { properties = {} }: Partial<Properties>): string[] {
  if (Array.isArray(value)) return []; // of plain values
  return Object.entries(value).flatMap(([name, field]) => {
    const known = properties[name];
    if (known === undefined) return [name];
    if (known.additionalProperties !== undefined) return [];
    const shape = schema.properties[/^#\/properties\/(\w+)$/.exec(known.$ref ?? "")?.[1] ?? ""] ?? known;
    return typeof field === "object" && field !== null ? undescribed(field, shape) : [];
  });
}

/** The event in `line`, which is as the schema says, in plain ASCII, and of one line. */
export function validEvent(line: string): Record<string, unknown> {
  expect(line).toMatch(/^[ -~]+$/);
  const event = JSON.parse(line);
  validate(event);
  expect({ line, errors: validate.errors ?? [], undescribed: undescribed(event, schema) })
    .toEqual({ line, errors: [], undescribed: [] });
  return event;
}
