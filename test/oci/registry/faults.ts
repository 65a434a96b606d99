/** Registries that break, stall, lie or never end: what is pulled in spite of it, and what is said otherwise. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { scratch } from '../../fixtures/layers.ts';
import { FakeRegistry, type Fault, largestBlob, type Request } from '../../fixtures/oci/fake-registry.ts';
import {
  archiveWith,
  type Blob,
  blobPath,
  sha256,
  TAG,
  writeBlob,
  writeImage,
  writeIndex,
} from '../../fixtures/oci/layout.ts';
import { noisyArchive, pullFrom, writeNoisyImage } from '../../fixtures/oci/pulls.ts';

const home = scratch(t);
const layout = join(home, 'layout');
const image = writeNoisyImage(layout);
const largest = largestBlob(layout);
const size = readFileSync(blobPath(layout, largest)).length;
const local = await pullFrom(`oci:${layout}:test`, { store: join(home, 'local') });
const registry = await FakeRegistry.start(layout);
t.teardown(() => registry.stop());
const repository = `docker://${registry.host}/some/image`;

let stores = 0;
/** Pulls into a new store. */
async function pullWith(fault: Fault, ref = `${repository}:test`, platform?: string) {
  registry.fault = fault;
  registry.requests.length = 0;
  const store = join(home, `store-${stores++}`);
  const result = await pullFrom(ref, { store, ...(platform !== undefined && { platform }) });
  return { result, store };
}

const isLargest = ({ path }: Request): boolean => path.endsWith(largest);
/** A fault of the first requests for the largest blob. */
const first = (count: number, fault: Fault): Fault => {
  let left = count;
  return (request, response) => isLargest(request) && left-- > 0 && fault(request, response);
};
const status =
  (code: number, headers: Record<string, string> = {}): Fault =>
  (_, response) => {
    response.writeHead(code, headers).end('no');
    return true;
  };
/** Sends the start of a body, and breaks the connection. */
const cutAt =
  (fraction: number): Fault =>
  (request, response) => {
    const bytes = registry.bytesAt(request.path) as Buffer;
    response.writeHead(200, { 'content-length': bytes.length });
    response.write(bytes.subarray(0, Math.floor(size * fraction)), () => response.destroy());
    return true;
  };
const ranges = (): (string | undefined)[] => registry.requests.filter(isLargest).map(({ headers }) => headers.range);

t.equal(local.length, 64, 'the image that a local layout makes');

for (const percent of [10, 30, 50, 70, 90])
  t.test(`a break at ${percent} %`, async t => {
    const { result } = await pullWith(first(1, cutAt(percent / 100)));
    t.equal(result, local);
    const [whole, rest, ...more] = ranges();
    t.strictSame([whole, more], [undefined, []]);
    const from = Number(/^bytes=(\d+)-$/.exec(rest ?? '')?.[1]);
    t.ok(from > 0 && from <= (size * percent) / 100, `it goes on at ${from} of ${size}`);
  });

/** Sends the start of the rest that was asked for, as a range. */
const cutRange =
  (bytesMax: number): Fault =>
  ({ path, headers }, response) => {
    const bytes = registry.bytesAt(path) as Buffer;
    const at = Number(/\d+/.exec(headers.range ?? '0')?.[0]);
    const range = { 'content-range': `bytes ${at}-${bytes.length - 1}/${bytes.length}` };
    response.writeHead(headers.range ? 206 : 200, { 'content-length': bytes.length - at, ...(headers.range && range) });
    response.write(bytes.subarray(at, at + bytesMax), () => response.destroy());
    return true;
  };

/** Faults after which the image is whole. */
const SURVIVED: readonly (readonly [rule: string, fault: Fault])[] = [
  ['more breaks than attempts, each with progress', first(10, cutRange(20_000))],
  ['three breaks without progress', first(3, cutRange(0))],
  [
    '500, 502 and 503',
    (() => {
      const codes = [500, 502, 503];
      return first(3, (request, response) => status(codes.shift() as number)(request, response));
    })(),
  ],
  ['429', first(2, status(429, { 'retry-after': '0' }))],
  ['a date to come back', first(1, status(503, { 'retry-after': new Date(Date.now() + 500).toUTCString() }))],
  [
    'a stall',
    first(1, (request, response) => {
      response.writeHead(200, { 'content-length': size });
      response.write(registry.bytesAt(request.path)?.subarray(0, 100_000));
      return true;
    }),
  ],
  ['no answer', first(1, () => true)],
  [
    'a body that ends early without a length',
    first(1, (request, response) => {
      response.writeHead(200, { connection: 'close' });
      response.end(registry.bytesAt(request.path)?.subarray(0, 100_000));
      return true;
    }),
  ],
  [
    'no ranges',
    (() => {
      const cut = first(2, cutAt(0.5));
      return (request, response) => {
        delete request.headers.range;
        return cut(request, response);
      };
    })(),
  ],
  [
    'another range than was asked for',
    (request, response) => {
      if (!isLargest(request)) return false;
      if (request.headers.range === undefined && ranges().length === 1) return cutAt(0.5)(request, response);
      if (request.headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': `bytes 0-9/${size}` }).end('0123456789');
      return true;
    },
  ],
  [
    '416',
    (request, response) => {
      if (!isLargest(request)) return false;
      if (ranges().length === 1) return cutAt(0.5)(request, response);
      return request.headers.range !== undefined && status(416)(request, response);
    },
  ],
  [
    'a body without its end',
    first(1, (request, response) => {
      response.writeHead(200, { 'transfer-encoding': 'chunked' });
      response.write(registry.bytesAt(request.path));
      return true;
    }),
  ],
  [
    'redirects within the registry',
    (request, response) =>
      isLargest(request) &&
      !request.path.startsWith('/else') &&
      status(307, { location: `/else${request.path}` })(request, response),
  ],
  [
    'a manifest that is busy at first',
    (() => {
      let left = 2;
      return ({ path }, response) => path.includes('/manifests/') && left-- > 0 && status(503)({} as Request, response);
    })(),
  ],
];
for (const [rule, fault] of SURVIVED)
  t.test(rule, async t => {
    t.equal((await pullWith(fault)).result, local);
  });

t.test('429 with a time', async t => {
  const began = Date.now();
  t.equal((await pullWith(first(1, status(429, { 'retry-after': '1' })))).result, local);
  t.ok(Date.now() - began >= 1000, 'the registry is not asked again before');
});

/** A body of anything, as long as anyone reads it. */
const endless: Fault = (_, response) => {
  response.writeHead(200);
  const more = (): boolean =>
    !response.destroyed && response.write(Buffer.alloc(65_536, 'x'), () => setImmediate(more));
  return more() || true;
};
const drip: Fault = (_, response) => {
  response.writeHead(200);
  const timer = setInterval(() => response.write('x'), 20);
  response.on('close', () => clearInterval(timer));
  return true;
};
const ofManifest =
  (fault: Fault): Fault =>
  (request, response) =>
    request.path.includes('/manifests/') && fault(request, response);
const instead =
  (bytes: Buffer, headers: Record<string, string> = {}): Fault =>
  (_, response) => {
    response.writeHead(200, headers).end(bytes);
    return true;
  };
const sameLength = Buffer.alloc(size, 'x');
const blobAt = `${repository}/blobs/${largest}`;
const tagAt = `${repository}/manifests/test`;
const { host } = registry;

/** Faults that end a pull, with the message. */
const REFUSED: readonly (readonly [rule: string, fault: Fault, message: string | RegExp])[] = [
  [
    'other bytes',
    first(9, instead(sameLength)),
    `${blobAt}: its digest is ${sha256(sameLength)}, but it should be ${largest}`,
  ],
  [
    'more bytes',
    first(9, instead(Buffer.alloc(size + 1))),
    `${blobAt}: more than the ${size} bytes that it should have`,
  ],
  ['an endless blob', first(9, endless), `${blobAt}: more than the ${size} bytes that it should have`],
  [
    'fewer bytes',
    first(9, instead(sameLength.subarray(1))),
    `${blobAt}: ends after ${size - 1} of ${size} bytes; given up after 4 attempts`,
  ],
  ['a blob that drips', first(99, drip), `${blobAt}: too slow: stopped after 0.4 s; given up after 4 attempts`],
  ['500 without end', first(99, status(500)), `${blobAt}: 500 Internal Server Error; given up after 4 attempts`],
  [
    '429 without end',
    first(99, status(429, { 'retry-after': '0' })),
    `${blobAt}: 429 Too Many Requests; given up after 4 attempts`,
  ],
  [
    '429 for an hour',
    first(1, status(429, { 'retry-after': '3600' })),
    `${blobAt}: 429 Too Many Requests; it asks to try again in 3600 s`,
  ],
  ['breaks without end', first(99, cutRange(0)), `${blobAt}: ${host}: the connection broke; given up after 4 attempts`],
  [
    'a missing blob',
    first(1, status(404)),
    `${blobAt}: ${host}: the registry has nothing by this name (404 Not Found)`,
  ],
  ['a forbidden blob', first(1, status(403)), `${blobAt}: ${host}: the registry refuses access (403 Forbidden)`],
  [
    'redirects in a circle',
    first(99, (request, response) => status(307, { location: request.path })(request, response)),
    `${blobAt}: more than 10 redirects`,
  ],
  [
    'a redirect to a file',
    first(1, status(302, { location: 'file:///etc/passwd' })),
    `${blobAt}: ${host} redirects to something other than an address`,
  ],
  [
    'headers without end',
    first(99, (_, response) => {
      for (let i = 0; i < 100; i++) response.setHeader(`x-${i}`, 'x'.repeat(1000));
      response.writeHead(200).end();
      return true;
    }),
    `${blobAt}: ${host}: the headers of its answer are too long`,
  ],
  [
    'no HTTP',
    first(1, (_, response) => {
      response.socket?.end('hello\r\n\r\n');
      return true;
    }),
    `${blobAt}: ${host}: its answer is no HTTP`,
  ],
  ['an endless manifest', ofManifest(endless), `${tagAt}: more than 8388608 bytes`],
  ['a manifest that drips', ofManifest(drip), `${tagAt}: too slow: stopped after 0.4 s; given up after 4 attempts`],
  ['a web page', ofManifest(instead(Buffer.from('<html>'))), `${tagAt}: no JSON in UTF-8`],
  ['another document', ofManifest(instead(Buffer.from('[]'))), /manifests\/test: /],
  [
    'a manifest of another digest',
    ofManifest((request, response) => {
      response.setHeader('docker-content-digest', `sha256:${'0'.repeat(64)}`);
      registry.serve(request, response);
      return true;
    }),
    `${tagAt}: its digest is ${image.digest}, but it should be sha256:${'0'.repeat(64)}`,
  ],
  [
    'no registry',
    ({ path }, response) => path === '/v2/' && status(404)({} as Request, response),
    /is no registry: it answers 404 Not Found to \/v2\/$/,
  ],
];
for (const [rule, fault, message] of REFUSED)
  t.test(rule, async t => {
    const { result, store } = await pullWith(fault);
    if (typeof message === 'string') t.equal(result, message);
    else t.match(result, message);
    t.notOk(
      filesOf(store).some(name => name.includes('images/')),
      'no image is made',
    );
    t.strictSame(
      filesOf(store).filter(name => name.includes('.tmp')),
      [],
      'nothing incomplete stays',
    );
  });

function filesOf(store: string): string[] {
  try {
    return readdirSync(store, { recursive: true, encoding: 'utf8' });
  } catch {
    return []; // nothing was made
  }
}

t.test('manifests', async t => {
  const none: Fault = () => false;
  t.equal((await pullWith(none, `${repository}@${image.digest}`)).result, local, 'by digest');
  t.strictSame(
    registry.asked('manifests').map(({ path }) => path),
    [`/v2/some/image/manifests/${image.digest}`],
  );
  t.match(
    registry.asked('manifests')[0]?.headers.accept,
    /oci\.image\.index.*oci\.image\.manifest.*docker.*list.*docker.*manifest/,
  );
  const forged = Buffer.from('{"schemaVersion":2}');
  t.equal(
    (await pullWith(ofManifest(instead(forged)), `${repository}@${image.digest}`)).result,
    `${repository}/manifests/${image.digest}: its digest is ${sha256(forged)}, but it should be ${image.digest}`,
  );
  t.equal(
    (await pullWith(none, `${repository}:other`)).result,
    `${repository}/manifests/other: ${host}: the registry has nothing by this name (404 Not Found, MANIFEST_UNKNOWN)`,
  );
});
t.test('layers are fetched ahead, some at a time', async t => {
  const layers = join(home, 'layers');
  const archives = Array.from({ length: 8 }, (_, i) => noisyArchive(`${i}`, 10_000));
  writeIndex(layers, [{ ...writeImage(layers, archives), annotations: { [TAG]: 'test' } }]);
  const wanted = await pullFrom(`oci:${layers}:test`, { store: join(home, 'eight') });
  const other = await FakeRegistry.start(layers);
  t.teardown(() => other.stop());
  const AT_A_TIME = 4;
  let open = 0;
  let most = 0;
  let release = (): void => {};
  const enough = new Promise<void>(resolve => {
    release = resolve;
  });
  other.fault = async ({ path }) => {
    if (!path.includes('/blobs/') || (other.bytesAt(path)?.length ?? 0) < 5000) return false;
    most = Math.max(most, ++open);
    if (open === AT_A_TIME) setTimeout(release, 50);
    await enough;
    open--;
    return false;
  };
  t.equal(await pullFrom(`docker://${other.host}/a:test`, { store: join(home, 'eight-again'), stallMs: 5000 }), wanted);
  t.equal(most, AT_A_TIME);
});

t.test('an index, and documents without media types', async t => {
  const others = join(home, 'others');
  const archives = ['for arm', 'for ppc'].map(name => archiveWith(name));
  const [arm, ppc] = archives.map((archive, i) =>
    writeImage(others, [archive], { mediaTypes: false, architecture: ['arm64', 'ppc64le'][i] as string }),
  ) as [Blob, Blob];
  const index = writeBlob(others, {
    schemaVersion: 2,
    manifests: [
      { ...arm, platform: { os: 'linux', architecture: 'arm64' } },
      { ...ppc, platform: { os: 'linux', architecture: 'ppc64le' } },
    ],
  });
  writeIndex(others, [{ ...index, annotations: { [TAG]: 'test' } }]);
  const wanted = await pullFrom(`oci:${others}:test`, { store: join(home, 'ppc'), platform: 'linux/ppc64le' });
  const other = await FakeRegistry.start(others);
  t.teardown(() => other.stop());
  const ref = `docker://${other.host}/a/b/c:test`;
  t.equal(await pullFrom(ref, { store: join(home, 'index'), platform: 'linux/ppc64le' }), wanted);
  t.equal(
    await pullFrom(ref, { store: join(home, 'index'), platform: 'linux/s390x' }),
    `docker://${other.host}/a/b/c: no image for linux/s390x; choose with --platform: linux/arm64, linux/ppc64le`,
  );
});
t.end();
