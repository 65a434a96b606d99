{
  "targets": [
    {
      "target_name": "lowerdata",
      "sources": [
        "addon.c", "shim.c", "fuse_dev.c", "mount.c", "descriptors.c", "files.c", "changes.c", "xattr.c", "verity.c",
        "process.c", "sockets.c", "confine.c", "bench.c", "uring.c", "event_loop.c"
      ],
      "defines": ["_GNU_SOURCE", "_FILE_OFFSET_BITS=64"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    }
  ]
}
