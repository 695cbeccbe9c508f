/** Every scenario, in the order a boot runs them. */
import type { Scenario } from "../scenario.ts";
import { story } from "./story.ts";

export const scenarios: readonly Scenario[] = [story];
