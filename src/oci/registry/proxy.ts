/** Which hosts are reached without a proxy. Source: golang.org/x/net/http/httpproxy, as podman and skopeo read NO_PROXY. */
import { BlockList, isIP } from 'node:net';

const LOOPBACK = /^(localhost|127\.[\d.]+|\[::1\])$/;
const PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

/** The proxy for an address, by the environment; undefined if it is reached directly. */
export function proxyFor(url: URL, env: NodeJS.ProcessEnv): string | undefined {
  const isSecure = url.protocol === 'https:';
  const proxy = isSecure ? (env.https_proxy ?? env.HTTPS_PROXY) : (env.http_proxy ?? env.HTTP_PROXY);
  if (!proxy || LOOPBACK.test(url.hostname)) return undefined;
  const entries = (env.no_proxy ?? env.NO_PROXY ?? '').split(/[,\s]+/).filter(entry => entry !== '');
  return entries.some(entry => isNamed(url, entry)) ? undefined : proxy;
}

/** Whether an entry means an address: `*`, a name for itself and those below it, an IP address, a range of them; with a port or without. */
function isNamed({ hostname, port, protocol }: URL, entry: string): boolean {
  if (entry === '*') return true;
  const [, name = entry, wanted] = isIP(entry) ? [] : (/^(.+):(\d+)$/.exec(entry) ?? []);
  if (wanted !== undefined && wanted !== (port || PORTS[protocol])) return false;
  const [host, place] = [hostname, name].map(text => text.replace(/^\[(.*)\]$/, '$1').toLowerCase()) as [
    string,
    string,
  ];
  if (isIP(host)) return isWithin(host, place);
  const domain = place.replace(/^\*?\./, '');
  return host === domain || host.endsWith(`.${domain}`);
}

/** Whether an IP address is the given one, or in the range `ADDRESS/BITS`. */
function isWithin(address: string, place: string): boolean {
  const [base = '', bits] = place.split('/');
  const family = isIP(base);
  if (family === 0 || family !== isIP(address)) return false;
  const bitsMax = family === 4 ? 32 : 128;
  if (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= bitsMax)) return false;
  const range = new BlockList();
  range.addSubnet(base, Number(bits ?? bitsMax), `ipv${family as 4 | 6}`);
  return range.check(address, `ipv${family as 4 | 6}`);
}
