/**
 * The one static file in roots where there is no C library, another one, or nothing at all: it starts, and traces
 * with the best backend.
 */
import { expect } from "bun:test";
import { muslLibrary } from "../../build/musl.ts";
import { atLeast, type Checks, type Run, type Scenario } from "../scenario.ts";

const roots = ["debian", "musl", "bare"] as const;

const checks: Checks = {
  "the same file in each, and nothing else that could start in two of them"(run) {
    const sums = run.text("sums").trim().split("\n").map((line) => line.split(" ")[0]);
    expect(sums.length).toBe(roots.length);
    expect(new Set(sums).size).toBe(1);
    expect(run.text("bare.files").trim().split("\n")).toEqual(["proc", "pwru", "sys", "tmp"]);
    expect(run.text("musl.libc")).toContain("musl libc (x86_64)");
    for (const root of ["musl", "bare"]) {
      expect(run.text(`${root}.glibc`)).toContain("No such file"); // Debian's own program
      expect(run.text(`${root}.write`)).toContain("Read-only file system");
    }
    expect(run.text("bare.mounts")).toMatch(/ \S+\/tmp tmpfs \S*noexec/);
  },
  ...Object.fromEntries(roots.map((root) => [
    `${root}: traces functions`,
    (run: Run) => {
      expect(run.facts(root)).toMatchObject({ ready: true, gone: true, status: 0 });
      expect(run.text(`${root}.err`)).toContain(
        `via=${atLeast(run.kernel, "6.12") ? "kprobe-multi" : "kprobe"}`,
      );
      expect(run.lines(`${root}.out`).map(({ func }) => func)).toEqual(["ip_rcv", "udp_rcv"]);
    },
  ])),
};

export const diverseRoots: Scenario = {
  name: "roots",
  kernels: [],
  longKernels: ["7.3"],
  limitSeconds: 300,
  files: () => [muslLibrary()],
  script: `
    # root NAME: /roots/NAME with the file, /proc and /sys, of which nothing can be written; a /tmp without exec.
    root() {
      local at=/roots/$1
      mkdir -p $at/proc $at/sys $at/tmp
      touch $at/pwru
      mount --bind $at $at
      mount --bind "$PWRU" $at/pwru
      mount -o remount,bind,ro none $at
      mount -o remount,bind,ro none $at/pwru
      mount -t proc proc $at/proc
      mount -t sysfs sysfs $at/sys
      mount --bind /tmp $at/tmp # where the ready file will be
      mount -o remount,bind,noexec,nosuid,nodev none $at/tmp
      printf '#!/usr/bin/bash\\nexec chroot %s /pwru "$@"\\n' $at > /tmp/in-$1
      chmod 755 /tmp/in-$1
      ls $at > "$OUT/$1.files"
      grep " $at/" /proc/mounts > "$OUT/$1.mounts"
      { echo x > $at/file; } 2> "$OUT/$1.write"
    }
    mkdir -p /roots/musl/lib
    for name in ld-musl-x86_64.so.1 libc.so libc.so.6; do cp libc.so /roots/musl/lib/$name; done
    chmod 755 /roots/musl/lib/*
    cp /usr/bin/setpriv /roots/musl/
    root musl
    root bare
    chroot /roots/musl /lib/ld-musl-x86_64.so.1 2> "$OUT/musl.libc"
    chroot /roots/musl /setpriv 2> "$OUT/musl.glibc"
    chroot /roots/bare /bin/sh 2> "$OUT/bare.glibc"
    sha256sum "$PWRU" /roots/*/pwru > "$OUT/sums"
    trace() {
      local name=$1
      start $name --filter-func 'ip_rcv|udp_rcv' 'udp and dst port 4097'
      echo hello | socat -u - UDP4:127.0.0.1:4097
      settle $name
      stop $name
    }
    trace debian
    for name in musl bare; do TRACER=/tmp/in-$name trace $name; done
    for name in musl bare; do umount -l /roots/$name/{pwru,proc,sys,tmp} /roots/$name; done
    true
  `,
  checks: {},
  oursOnly: checks,
};
