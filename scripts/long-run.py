#!/usr/bin/env python3
"""One user of a mount, for long-run.ts: WORK TOP SEED. Does its work until its input ends, and prints each second how often it
has. What must not be is a line that begins with BROKEN, and status 1.

Block I of a file is the SHA-256 of its name and I, 128 times, cut where the file ends.
"""
import errno, hashlib, mmap, os, random, select, subprocess, sys, time

work, top, seed = sys.argv[1:]
rng = random.Random(seed)
BLOCK = 4096
directories = sorted(d for d in os.listdir(top) if d.startswith('d'))


class Broken(Exception):
    pass


def blocks(name, first, last):
    return b''.join(hashlib.sha256(f'{name}:{i}'.encode()).digest() * (BLOCK // 32) for i in range(first, last))


def wanted(name, at, length):
    """The bytes at a position, as if the file had no end."""
    first = at // BLOCK
    return blocks(name, first, (at + length) // BLOCK + 1)[at - first * BLOCK:][:length]


def check(path, data, at):
    if data != wanted(os.path.basename(path), at, len(data)):
        raise Broken(f'wrong bytes in {path} at {at}')


def any_file():
    directory = os.path.join(top, rng.choice(directories))
    return os.path.join(directory, rng.choice(os.listdir(directory)))


def walk():
    seen = 0
    for directory, _, names in os.walk(top, onerror=lambda e: sys.exit(f'BROKEN {e}')):
        for name in names:
            os.stat(os.path.join(directory, name))
            seen += 1
    if seen != walk.__dict__.setdefault('seen', seen):
        raise Broken(f'a walk saw {seen} files, not {walk.seen}')


def read():
    path = any_file()
    with open(path, 'rb', buffering=0) as f:
        size = os.fstat(f.fileno()).st_size
        at = rng.randrange(size)
        data = os.pread(f.fileno(), rng.choice([1, 100, 5000, 1 << 17]), at)
        check(path, data, at)
        if not data:
            raise Broken(f'{path} ends at {at} of {size} bytes')


def map_file():
    path = any_file()
    with open(path, 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        for _ in range(5):
            at = rng.randrange(len(m))
            check(path, m[at:at + 64], at)


def execute():
    said = subprocess.run([os.path.join(top, 'program'), 'ran'], capture_output=True).stdout
    if said != b'ran\n':
        raise Broken(f'the program printed {said}')


def miss():
    path = any_file()
    if os.path.lexists(path + '-not'):
        raise Broken(f'{path}-not is there')
    if os.listxattr(path):
        raise Broken(f'{path} has xattrs')


def changed():
    """Whole and right, or not at all."""
    path = os.path.join(top, 'changed', rng.choice(os.listdir(os.path.join(top, 'changed'))))
    try:
        with open(path, 'rb', buffering=0) as f:
            at, size = 0, os.fstat(f.fileno()).st_size
            while at < size:
                data = os.pread(f.fileno(), 1 << 16, at)
                check(path, data, at)
                at += len(data) or size
    except OSError as e:
        if e.errno != errno.EIO:
            raise


turn, count, told = globals()[work], 0, time.time()
try:
    while not select.select([sys.stdin], [], [], 0)[0]:
        turn()
        count += 1
        if time.time() - told > 1:
            told = time.time()
            print(count, flush=True)
    print(count, flush=True)
except (OSError, Broken) as e:
    print(f'BROKEN {work}: {e}', flush=True)
    sys.exit(1)
