/** docs/doctor.schema.json, as what `--doctor --output-json` must satisfy. */
import Ajv2020 from "ajv/dist/2020.js";
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Finding } from "../../lib/doctor/finding.ts";

const schema = JSON.parse(readFileSync(join(import.meta.dir, "../../docs/doctor.schema.json"), "utf8"));
const validate = new Ajv2020({ strict: true, strictTypes: false, allErrors: true }).compile(schema);

/** What a program reads. */
export interface Report {
  readonly kernel: string;
  readonly arch: string;
  readonly backend: string | null;
  readonly is_default: boolean;
  readonly probes: number | null;
  readonly start_seconds: number | null;
  readonly miss_ns: number | null;
  readonly match_ns: number | null;
  readonly findings: readonly (Omit<Finding, "remedy"> & { readonly remedy: string | null })[];
  readonly features: Readonly<Record<string, boolean>>;
}

/** The one line of `text`, which is as the schema says. */
export function validReport(text: string): Report {
  expect(text.indexOf("\n")).toBe(text.length - 1);
  const report: Report = JSON.parse(text);
  validate(report);
  expect(validate.errors ?? []).toEqual([]);
  return report;
}
