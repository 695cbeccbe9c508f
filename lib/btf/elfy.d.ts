/** The part of elfy 1.0.0 that we use; the package has no types of its own. */
declare module "elfy" {
  export interface Section {
    readonly name: string;
    readonly type: string | number;
    /** bytes from the start of the file */
    readonly off: number;
    readonly size: number;
  }
  /** Throws on what it does not understand. The argument has to be a Buffer. */
  export function parse(file: Buffer): { readonly body: { readonly sections: readonly Section[] } };
}
