/**
 * Draws the report of a benchmark: the distribution of times and the ratios between targets, one panel per workload.
 *
 *     workload   target  ░░▒▓●▓▒░ │    times, logarithmic: ● p50, │ p99, shade: share      ●  p50 relative to the first target
 *
 * Observable Plot draws into a document of linkedom, so no browser is needed. The colours suit light and dark backgrounds.
 */
import type * as Plot from '@observablehq/plot';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import type { BenchReport, BenchRow } from './report.ts';

type PlotModule = typeof Plot;
/** The document that Plot draws into. */
type Page = NonNullable<Plot.PlotOptions['document']>;

/** Draws a report. @returns an SVG document */
export type Painter = (report: BenchReport) => string;

/** Loads the drawing packages. Throws ErrnoError EINVAL if they are not installed: a mount does not need them. */
export async function loadPainter(): Promise<Painter> {
  try {
    const [plot, { parseHTML }] = await Promise.all([import('@observablehq/plot'), import('linkedom')]);
    const { document } = parseHTML('<html></html>');
    return report => paint(report, plot, document);
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw new ErrnoError(EINVAL, `--svg needs two packages: npm install -g @observablehq/plot linkedom (${reason})`);
  }
}

const [WIDTH, TIMES_WIDTH, HEAD_HEIGHT, MARGIN] = [1000, 660, 86, 20];
const [LANE_HEIGHT, GAP_HEIGHT, AXIS_HEIGHT] = [15, 12, 44];
const FONT = 'font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12px;';
/** Colours of targets in order, for light and dark backgrounds; they remain distinguishable for colour-blind readers. */
const LIGHT = ['#0969da', '#bc4c00', '#1a7f37', '#8250df', '#9a6700', '#bf3989', '#57606a'];
const DARK = ['#58a6ff', '#f0883e', '#3fb950', '#bc8cff', '#d29922', '#f778ba', '#8b949e'];
const INK = { light: '#1f2328', dark: '#e6edf3' } as const;
const GROUND = { light: '#fefefe', dark: '#0d1117' } as const;

function paint(report: BenchReport, plot: PlotModule, document: Page): string {
  const [clients] = report.rows.map(row => row.clients);
  const rows = report.rows.filter(row => row.clients === clients);
  const targets = report.targets.map(({ name }) => name).filter(name => rows.some(({ target }) => target === name));
  const scene: Scene = {
    rows,
    targets,
    plot,
    document,
    height: heightOf(rows),
    bucketRatio: report.histogramBucketRatio,
  };
  const pieces = [
    `<style>${styles()}</style>`,
    `<rect width="${WIDTH}" height="${HEAD_HEIGHT + scene.height + MARGIN}" rx="10" fill="${GROUND.light}"/>`,
    ...head(report, targets, clients ?? 1),
    placed(times(scene), MARGIN),
    placed(ratios(scene), TIMES_WIDTH),
  ];
  const size = `width="${WIDTH}" height="${HEAD_HEIGHT + scene.height + MARGIN}"`;
  const box = `viewBox="0 0 ${WIDTH} ${HEAD_HEIGHT + scene.height + MARGIN}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${box} role="img">\n${pieces.join('\n')}\n</svg>\n`;
}

interface Scene {
  readonly rows: readonly BenchRow[];
  readonly targets: readonly string[];
  readonly plot: PlotModule;
  readonly document: Page;
  readonly height: number;
  readonly bucketRatio: number;
}

function heightOf(rows: readonly BenchRow[]): number {
  const workloads = new Set(rows.map(({ workload }) => workload)).size;
  const lanes = new Set(rows.map(({ target }) => target)).size;
  return workloads * (lanes * LANE_HEIGHT + GAP_HEIGHT) + AXIS_HEIGHT;
}

/**
 * The style sheet. Light colours are attributes, which every SVG viewer understands; on a dark background the sheet replaces each
 * of them.
 */
function styles(): string {
  const pairs = [...LIGHT, INK.light, GROUND.light].map((light, i) => [light, [...DARK, INK.dark, GROUND.dark][i]]);
  const dark = pairs.map(([light, dark]) => `[fill="${light}"]{fill:${dark}}[stroke="${light}"]{stroke:${dark}}`);
  return [
    `svg{color:${INK.light};${FONT}}.title{font-size:17px;font-weight:600}`,
    `@media (prefers-color-scheme:dark){svg{color:${INK.dark}}${dark.join('')}}`,
  ].join('\n');
}

const escaped = (text: string): string => text.replace(/[<>&"]/g, sign => `&#${sign.charCodeAt(0)};`);
const colourOf = (i: number): string => LIGHT[i % LIGHT.length] as string;

function* head(report: BenchReport, targets: readonly string[], clients: number): Generator<string> {
  const { machine, rounds, entries } = report;
  const times = rounds === 1 ? '1 round' : `${rounds} rounds`;
  const many = clients === 1 ? '1 client' : `${clients} clients`;
  const line = `${entries} names · ${times} · ${many} · ${machine.processor} · Linux ${machine.kernel}`;
  yield `<text x="${MARGIN}" y="30" class="title" fill="currentColor">How long one operation takes</text>`;
  yield `<text x="${MARGIN}" y="50" fill="currentColor">${escaped(line)}</text>`;
  let x = MARGIN;
  for (const [i, name] of targets.entries()) {
    yield `<circle cx="${x + 5}" cy="68" r="5" fill="${colourOf(i)}"/><text x="${x + 15}" y="72" fill="currentColor">${escaped(name)}</text>`;
    x += 36 + name.length * 7;
  }
  yield* legend(x + 14);
}

/** The meaning of the marks, at the end of the line of targets. */
function* legend(x: number): Generator<string> {
  const words = (at: number, text: string): string => `<text x="${at}" y="72" fill="currentColor">${text}</text>`;
  const stroke = 'stroke="currentColor" stroke-width="2"';
  yield `<circle cx="${x}" cy="68" r="3.5" ${stroke} fill="${GROUND.light}"/>${words(x + 9, 'p50')}`;
  yield `<line x1="${x + 46}" x2="${x + 46}" y1="61" y2="75" ${stroke}/>${words(x + 53, 'p99')}`;
  for (const [i, opacity] of [0.15, 0.4, 0.7].entries())
    yield `<rect x="${x + 88 + 8 * i}" y="61" width="8" height="14" fill="currentColor" fill-opacity="${opacity}"/>`;
  yield words(x + 118, 'share of operations');
}

/** Positions a nested SVG. */
const placed = (svg: string, x: number): string => svg.replace('<svg ', `<svg x="${x}" y="${HEAD_HEIGHT}" `);

/** The options that both panels share: workloads from top to bottom, and the targets of each. */
function panel({ rows, targets, document, height }: Scene): Plot.PlotOptions {
  return {
    document,
    height,
    marginTop: 4,
    marginBottom: AXIS_HEIGHT - 4,
    style: { background: 'none', overflow: 'visible' },
    fy: { domain: [...new Set(rows.map(({ workload }) => workload))], label: null, padding: 0.14, axis: null },
    y: { type: 'band', domain: [...targets], axis: null, padding: 0.1 }, // dots alone would be put on the frame
    color: { type: 'ordinal', domain: [...targets], range: targets.map((_, i) => colourOf(i)) },
  };
}

/** The target that all others are compared with, if it was measured. */
const BASELINE = 'kernel';

function times(scene: Scene): string {
  const { plot, rows, bucketRatio } = scene;
  const strips = rows.flatMap(({ workload, target, histogram }) => {
    const most = Math.max(...histogram.map(([, count]) => count));
    return histogram.map(([from, count]) => ({
      fy: workload,
      y: target,
      x1: from,
      x2: from * bucketRatio,
      share: 0.12 + 0.6 * Math.sqrt(count / most),
    }));
  });
  const common = { fy: 'workload', y: 'target', stroke: 'target', strokeWidth: 2 } as const;
  return drawn(scene, {
    width: TIMES_WIDTH - 2 * MARGIN,
    marginLeft: 110,
    x: { type: 'log', label: 'time of one operation →', tickFormat: shortTime, grid: true },
    marks: [
      plot.axisFy({ anchor: 'left', label: null, tickSize: 0 }),
      plot.barX(strips, { x1: 'x1', x2: 'x2', y: 'y', fy: 'fy', fill: 'y', fillOpacity: 'share' }),
      plot.tickX(rows, { ...common, x: row => row.microseconds.p99 }),
      plot.dot(rows, { ...common, x: row => row.microseconds.p50, fill: GROUND.light, r: 3.5 }),
    ],
    opacity: { type: 'identity' },
  });
}

function ratios(scene: Scene): string {
  const { plot, rows, targets } = scene;
  const base = targets.includes(BASELINE) ? BASELINE : (targets[0] as string);
  const bases = new Map(rows.filter(({ target }) => target === base).map(row => [row.workload, row.microseconds.p50]));
  const x = ({ workload, microseconds }: BenchRow): number => microseconds.p50 / (bases.get(workload) ?? Number.NaN);
  const others = rows.filter(row => row.target !== base && x(row) > 0 && Number.isFinite(x(row)));
  const ends = decades([0.5, 2, ...others.map(x)]);
  return drawn(scene, {
    width: WIDTH - TIMES_WIDTH - MARGIN,
    marginLeft: 50,
    marginRight: 50,
    x: {
      type: 'log',
      domain: [ends[0], ends.at(-1)],
      ticks: ends,
      label: `p50, ${base} = 1 →`,
      tickFormat: (value: number) => `${value}×`,
      grid: true,
    },
    marks: [
      plot.ruleX([1], { stroke: colourOf(targets.indexOf(base)), strokeWidth: 2 }),
      plot.ruleY(others, { x1: 1, x2: x, y: 'target', fy: 'workload', stroke: 'target', strokeWidth: 2 }),
      plot.dot(others, { x, y: 'target', fy: 'workload', fill: 'target', r: 4 }),
      ...labels(scene, others, x),
    ],
  });
}

/** The ratios as text, on the side of each dot that has no line. */
function labels({ plot }: Scene, rows: readonly BenchRow[], x: (row: BenchRow) => number): Plot.Markish[] {
  return [false, true].map(isLess => {
    const place = isLess ? ({ dx: -8, textAnchor: 'end' } as const) : ({ dx: 8, textAnchor: 'start' } as const);
    return plot.text(
      rows.filter(row => x(row) < 1 === isLess),
      { x, y: 'target', fy: 'workload', text: row => `${Number(x(row).toPrecision(2))}×`, fontSize: 11, ...place },
    );
  });
}

/** The powers of ten that enclose the numbers. */
function decades(numbers: readonly number[]): number[] {
  const [first, last] = [Math.floor(Math.log10(Math.min(...numbers))), Math.ceil(Math.log10(Math.max(...numbers)))];
  return Array.from({ length: last - first + 1 }, (_, i) => Number(`1e${first + i}`));
}

/** Draws a panel as SVG text, rounded to hundredths of a pixel. */
function drawn(scene: Scene, options: Plot.PlotOptions): string {
  const svg = scene.plot.plot({ ...panel(scene), ...options });
  return svg.outerHTML.replace(/\d+\.\d{3,}(?![\d×])/g, (digits: string) => String(Number(Number(digits).toFixed(2))));
}

/** Microseconds in a suitable unit. */
function shortTime(microseconds: number): string {
  if (microseconds < 1) return `${Math.round(microseconds * 1000)} ns`;
  if (microseconds < 1000) return `${microseconds} µs`;
  return microseconds < 1e6 ? `${microseconds / 1000} ms` : `${microseconds / 1e6} s`;
}
