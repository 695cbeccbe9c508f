/** A program at work: attached while the fd is open. */
import { bpfLinkInfo, bpfObjGetInfoByFd } from "../sys/bpf.ts";
import { OwnedFd } from "../sys/fd.ts";

export class Link extends OwnedFd {
  /** Type and ids as the kernel has them. Linux 5.8. */
  info(): ReturnType<typeof bpfLinkInfo.decode> {
    return bpfObjGetInfoByFd(this.fd, bpfLinkInfo);
  }
}
