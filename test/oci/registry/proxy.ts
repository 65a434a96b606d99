/** NO_PROXY: which addresses are reached directly; for the most part by the cases of golang.org/x/net/http/httpproxy. */
import t from 'tap';
import { proxyFor } from '../../../src/oci/registry/proxy.ts';

const PROXY = 'http://proxy.example:3128';
const list =
  'foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, 2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64';
for (const [host, isDirect] of [
  ['localhost', true],
  ['127.0.0.1', true],
  ['127.0.0.2', true],
  ['[::1]', true],
  ['[::2]', false],
  ['192.168.1.1', true],
  ['192.168.1.2', false],
  ['192.168.1.3', true],
  ['192.168.1.4', false],
  ['10.0.0.2', true],
  ['[2001:db8::52:0:1]', true],
  ['[2001:db8::52:0:2]', false],
  ['[2001:db8::52:0:3]', true],
  ['[2002:db8:a::123]', true],
  ['[fe80::424b:c8be:1643:a1b6]', false],
  ['foobar.com', true],
  ['www.foobar.com', true],
  ['foofoobar.com', false],
  ['baz.com', false],
  ['www.barbaz.net', true],
  ['a.wildcard.io', true],
  ['example.com:81', false],
] as const)
  t.equal(proxyFor(new URL(`http://${host}/`), { http_proxy: PROXY, NO_PROXY: list }) === undefined, isDirect, host);

const url = new URL('https://10.1.2.3/');
for (const [NO_PROXY, isDirect] of [
  ['*', true],
  ['x,*', true],
  ['', false],
  ['10.0.0.0/8:443', true],
  ['10.0.0.0/8:80', false],
  ['10.0.0.0/33', false],
  ['10.0.0.0/-1', false],
  ['10.0.0.0/', false],
  ['/8', false],
  ['::/0', false],
  ['0.0.0.0/0', true],
] as const)
  t.equal(proxyFor(url, { HTTPS_PROXY: PROXY, NO_PROXY }) === undefined, isDirect, NO_PROXY);
t.equal(proxyFor(url, { HTTP_PROXY: PROXY }), undefined, 'another protocol');
t.equal(
  proxyFor(url, { https_proxy: PROXY, HTTPS_PROXY: 'x', no_proxy: '', NO_PROXY: '*' }),
  PROXY,
  'small letters first',
);
t.end();
