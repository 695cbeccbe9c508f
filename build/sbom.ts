/** A software bill of materials: SPDX 2.3 as JSON (spdx.github.io/spdx-spec/v2.3). */
import type { Component } from "./components.ts";
import { digest } from "./host.ts";

export interface ReleaseFile {
  readonly name: string;
  readonly content: Uint8Array;
}

export function sbom(components: readonly Component[], files: readonly ReleaseFile[], date: Date): string {
  const hex = (algorithm: "sha1" | "sha256", { content }: ReleaseFile) =>
    digest(algorithm, content).toString("hex");
  const packageId = ({ name }: Component) => `SPDXRef-Package-${name.replaceAll(/[^A-Za-z0-9.-]/g, "-")}`;
  const fileId = ({ name }: ReleaseFile) => `SPDXRef-File-${name}`;
  const relation = (spdxElementId: string, relationshipType: string, relatedSpdxElement: string) => ({
    spdxElementId,
    relationshipType,
    relatedSpdxElement,
  });
  const [ours] = components;
  // The same files give the same document, and other files another name.
  const identity = digest("sha256", Buffer.from(files.map((file) => hex("sha256", file)).join())).toString(
    "hex",
  );
  const document = {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: `${ours?.name} ${ours?.version}`,
    documentNamespace: `urn:sha256:${identity}`,
    creationInfo: {
      created: date.toISOString().replace(/\.\d+Z$/, "Z"),
      creators: ["Tool: build.ts"],
    },
    packages: components.map((component) => ({
      SPDXID: packageId(component),
      name: component.name,
      versionInfo: component.version,
      downloadLocation: component.source,
      filesAnalyzed: false,
      licenseConcluded: "NOASSERTION",
      licenseDeclared: component.license,
      copyrightText: "NOASSERTION",
      externalRefs: [
        { referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: component.purl },
      ],
    })),
    files: files.map((file) => ({
      SPDXID: fileId(file),
      fileName: `./${file.name}`,
      fileTypes: ["BINARY"],
      checksums: [
        { algorithm: "SHA1", checksumValue: hex("sha1", file) },
        { algorithm: "SHA256", checksumValue: hex("sha256", file) },
      ],
      licenseConcluded: "NOASSERTION",
      copyrightText: "NOASSERTION",
    })),
    relationships: [
      ...files.map((file) => relation("SPDXRef-DOCUMENT", "DESCRIBES", fileId(file))),
      ...files.flatMap((file) =>
        components.map((component) => relation(fileId(file), "CONTAINS", packageId(component)))
      ),
    ],
  };
  return JSON.stringify(document, undefined, 2) + "\n";
}
