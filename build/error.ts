/** A build that cannot go on: what was found, and what was wanted. */
export class BuildError extends Error {
  override readonly name = "BuildError";
}
