#!/usr/bin/env python3
"""Records where this kernel shows a case of the corpus otherwise than Linux 6.18 does. record.sh runs it in a virtual machine.

Usage: record.py ORACLE WORKDIR. It prints JSON: {"kernel": release, "cases": {"FILE:CASE": DIFFERENCE}}, where DIFFERENCE is
{"mount_errno": NAME or null} if one of the two refuses the mount and the other does not, or they give different errors;
otherwise {"tree": {PATH: FIELDS or null}, "ops": {NUMBER: RESULT}}: the fields that are others here, null for one that is not there.
A mount that succeeds here alone has all of its paths in "tree". "hidden_xattrs" is the errno of getxattr for every name of
overlayfs, where that is not ENODATA as in Linux 6.18.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, sys.argv[1])
import oracle as o  # noqa: E402


class Stage(o.Stage):
    """Mounts images through loop devices: kernels before 6.12 mount EROFS from block devices alone."""

    def build(self):
        self.loops = []
        super().build()

    def mount(self, src, root, typ, flags):
        if typ == b"erofs":
            loop = subprocess.check_output(["losetup", "-f"]).strip()
            subprocess.check_call(["losetup", "-r", loop, src])
            self.loops.append(loop)
            src = loop
        super().mount(src, root, typ, flags)

    def close(self):
        super().close()
        for loop in self.loops:
            subprocess.call(["losetup", "-d", loop])


o.Stage = Stage


def difference(case, expected, got):
    """What is in `got` and differs from `expected`; None if nothing does."""
    if "mount_errno" in expected or "mount_errno" in got:
        if expected.get("mount_errno") == got.get("mount_errno"):
            return None
        return {"mount_errno": got.get("mount_errno"), **got}
    out = {}
    before, after = expected.get("tree", {}), got.get("tree", {})
    tree = {p: fields(before.get(p), after.get(p)) for p in sorted(set(before) | set(after))}
    tree = {p: f for p, f in tree.items() if f != {}}
    if tree:
        out["tree"] = tree
    ops = {str(i): result for i, (result, old) in enumerate(zip(got.get("ops", []), expected.get("ops", []))) if result != old}
    if ops:
        out["ops"] = ops
    return out or None


def fields(before, after):
    """The fields of a path's record that differ."""
    if before is None or after is None:
        return after if before is None and after is not None else None
    names = (set(before) | set(after)) - o.SOFT
    return {n: after.get(n) for n in sorted(names) if before.get(n) != after.get(n)}


def take_hidden(got, errnos):
    """Moves what getxattr says to all names that overlayfs hides from the records to `errnos`, if it says the same to each."""
    for record in got.get("tree", {}).values():
        hidden = record.get("unlisted_xattrs", {})
        said = {value["errno"] if isinstance(value, dict) else None for value in hidden.values()}
        if len(hidden) > 3 and len(said) == 1 and None not in said:
            errnos |= said
            del record["unlisted_xattrs"]


def main():
    found, skipped, errnos = {}, {}, set()
    work = os.fsencode(sys.argv[2])
    folder = os.path.join(sys.argv[1], "cases")
    for case in o.load_cases([os.path.join(folder, f) for f in sorted(os.listdir(folder))]):
        name = case["file"] + ":" + case["name"]
        expected = case["kernel_expect"] if case.get("proposed") else case["expect"]
        try:
            got = o.run_kernel(case, work)
            take_hidden(got, errnos)
            differs = difference(case, expected, got)
        except (o.Unsupported, OSError) as error:
            skipped[name] = str(error)
            continue
        if differs:
            found[name] = differs
        print(name, file=sys.stderr)
    recording = {"kernel": os.uname().release, "hidden_xattrs": sorted(errnos), "skipped": skipped, "cases": found}
    print(json.dumps(recording, sort_keys=True, indent=1))


main()
