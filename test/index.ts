/** Proves src/index.ts: what programs may import, by name, and that each of it says what it is for. */
import { join } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { packageFolder } from './fixtures/mounts/mounted.ts';

t.setTimeout(120_000);

/** What breaks a program when it goes: a change here is one for CHANGELOG.md. */
const VALUES = `
  ErofsLayer ErrnoError Explainer HAZARDS IMAGE_DEFAULTS KERNEL_DEFAULTS MISSING Measurement Overlay OverlayXattrs RULES Recorder
  STACK_DEFAULTS StackDraft TAKES_PART VERITY_DEFAULTS VerityError attempt beginStore defaultsFor digestFiles dtypeOf endStore
  errnoName findPath hazards inventory isDirectory isRegular isSymlink isWhiteout linesOf makeRdev measure measureBytes
  measureFd measureFile bufferOf byteStringFromText byteStringOf newInode objectPath opaqueness openImage openLayer openOverlay
  openStack parseDigest parseDump parseLowerdir parseOrigin parseRedirect printDump printImage printable rdevMajor
  rdevMinor readImageFile readTree scanTree setPayload setXattr settleRules splitOptions step walkTree writeImage`;
const TYPES = `
  Algorithm Attr Check Composefs ComposefsVersion Data DataReport Digest Entry Explanation Handle Hazard HazardCode Image
  Inode InventoryEntry Judge Layer LayerSpec LookupReport Measured ByteString Nid Node Option Origin PoolFile PoolOptions Read
  ReadOptions RuleName RuleOptions Rules ScanOptions Scanned ScannedFile Search StackChoices StackDefaults StackOptions
  Statfs Trace TraceEvent TreeEntry TreeInode Verdict VerityCode VerityParameters WriteOptions`;
const names = (text: string): string[] => text.trim().split(/\s+/);

const entry = join(packageFolder, 'src', 'index.ts');
const { config } = ts.readConfigFile(join(packageFolder, 'tsconfig.json'), ts.sys.readFile);
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, packageFolder);
const program = ts.createProgram([entry], options);
const checker = program.getTypeChecker();
const exported = checker
  .getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(entry) as ts.SourceFile) as ts.Symbol)
  .map(symbol => ({
    name: symbol.name,
    symbol: symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol,
  }));

const isDocumented = (symbol: ts.Symbol): boolean =>
  symbol.getDocumentationComment(checker).length > 0 || symbol.getJsDocTags(checker).length > 0;

/** The methods of a class or an interface that a program can call; some inherit the docstring of what they implement. */
function methodsOf(symbol: ts.Symbol): ts.Symbol[] {
  const isOpen = ({ valueDeclaration: at }: ts.Symbol): boolean =>
    at !== undefined && (ts.getCombinedModifierFlags(at as ts.MethodDeclaration) & ts.ModifierFlags.Private) === 0;
  return [...(symbol.members?.values() ?? [])].filter(one => one.flags & ts.SymbolFlags.Method && isOpen(one));
}

t.test('the names', async t => {
  t.strictSame(exported.map(({ name }) => name).sort(), [...names(VALUES), ...names(TYPES)].sort(), 'all of them');
  t.strictSame(Object.keys(await import('../src/index.ts')).sort(), names(VALUES).sort(), 'those of values');
});

t.test('each has a docstring, and so have its methods', async t => {
  const silent = exported.flatMap(({ name, symbol }) => [
    ...(isDocumented(symbol) ? [] : [name]),
    ...methodsOf(symbol).flatMap(method => (isDocumented(method) ? [] : [`${name}.${method.name}`])),
  ]);
  t.strictSame(silent, []);
  t.ok(exported.flatMap(({ symbol }) => methodsOf(symbol)).length > 50, 'methods are looked at');
});
t.end();
