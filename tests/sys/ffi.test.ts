/** The seam: results pass, errno becomes a KernelError, a fake can stand in. */
import { expect, test } from "bun:test";
import { KernelError } from "../../lib/errors.ts";
import { isErrno, pageSize, syscall, trySyscall } from "../../lib/sys/ffi.ts";
import { fakeKernel } from "./fake_kernel.ts";

test("A result is a number, an error has call, errno and code", () => {
  expect(syscall("getppid")).toBe(process.ppid);
  const failed = () => syscall("close", 999_999);
  expect(failed).toThrow(new KernelError("close", 9, "EBADF"));
  expect(failed).toThrow("close: EBADF");
  expect(trySyscall("close", 999_999)).toBe(-9);
});

test("errno is that of the call, however hot the loop and with collections in between", () => {
  let wrong = 0;
  for (let i = 0; i < 200_000; i++) {
    if (trySyscall("close", -1) !== -9) wrong++;
    if (trySyscall("munmap", 1, pageSize) !== -22) wrong++;
    if (i % 50_000 === 0) Bun.gc(true);
  }
  expect(wrong).toBe(0);
});

test("A fake stands in until it is disposed", () => {
  {
    using kernel = fakeKernel(({ name }) => name === "getppid" ? 42 : -38);
    expect(syscall("getppid")).toBe(42);
    expect(() => syscall("bpf", 1, 2n, 3)).toThrow("bpf: ENOSYS");
    expect(kernel.calls.map(({ name }) => name)).toEqual(["getppid", "bpf"]);
    expect(kernel.calls[1]?.args).toEqual([1, 2, 3, 0, 0, 0]);
  }
  expect(syscall("getppid")).toBe(process.ppid);
});

test("isErrno knows its own", () => {
  const error = new KernelError("bpf(BPF_MAP_CREATE)", 1, "EPERM");
  expect(isErrno(error, "EPERM", "EACCES")).toBe(true);
  expect(isErrno(error, "EINVAL")).toBe(false);
  expect(isErrno(new Error("EPERM"), "EPERM")).toBe(false);
});
