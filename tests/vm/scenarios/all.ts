/** Every scenario, in the order a boot runs them: the one that cannot be undone last, and the one with the peer. */
import type { Scenario } from "../scenario.ts";
import { demo } from "./demo.ts";
import { doctor, illness, lockdown } from "./doctor.ts";
import { encapsulation } from "./encapsulation.ts";
import { expressions } from "./expressions.ts";
import { filters } from "./filters.ts";
import { flood } from "./flood.ts";
import { leftovers } from "./leftovers.ts";
import { besidePeer, selection } from "./options.ts";
import { likeness } from "./likeness.ts";
import { million } from "./million.ts";
import { multitude } from "./multitude.ts";
import { outputs } from "./outputs.ts";
import { paths } from "./paths.ts";
import { pairs } from "./pairs.ts";
import { print } from "./print.ts";
import { programs } from "./programs.ts";
import { protocols } from "./protocols.ts";
import { recipesOfManual } from "./recipes.ts";
import { refusing } from "./refusals.ts";
import { rights } from "./rights.ts";
import { retransmission } from "./retransmission.ts";
import { diverseRoots } from "./roots.ts";
import { stacks } from "./stacks.ts";
import { startStop } from "./start.ts";
import { story } from "./story.ts";
import { tracking } from "./tracking.ts";
import { verdicts } from "./verdicts.ts";

export const scenarios: readonly Scenario[] = [
  print, // first: connection tracking, once it is loaded, leaves its marks in structs and reassembles
  story,
  verdicts,
  protocols,
  retransmission,
  encapsulation,
  selection,
  besidePeer,
  outputs,
  pairs,
  million,
  likeness,
  flood,
  refusing,
  stacks,
  paths,
  tracking,
  multitude,
  programs,
  filters,
  expressions,
  doctor,
  illness,
  rights,
  demo,
  diverseRoots,
  recipesOfManual,
  leftovers,
  lockdown,
  startStop,
];
