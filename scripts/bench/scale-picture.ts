/** Draws the measurements of scale.ts: one panel per part, with time over size, both logarithmic. */
import * as plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** The measurements of one part: a row for each size, with numbers by their names. */
export interface Part {
  readonly title: string;
  /** The unit of the sizes. */
  readonly by: string;
  readonly table: ReadonlyMap<number, Readonly<Record<string, number>>>;
  /** The names of the numbers that are times of one operation, in µs. */
  readonly times: readonly string[];
}

const [WIDTH, HEIGHT, HEAD_HEIGHT, TITLE_HEIGHT] = [480, 290, 40, 30];
const FONT = 'font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12px;';
const COLOURS = ['#0969da', '#bc4c00', '#1a7f37', '#8250df', '#9a6700', '#bf3989'];

const TITLE = 'How the time of one operation grows';

/** @returns an SVG document with two panels per row */
export function drawScale(parts: readonly Part[]): string {
  const { document } = parseHTML('<html></html>');
  const rows = Math.ceil(parts.length / 2);
  const size = `width="${2 * WIDTH}" height="${TITLE_HEIGHT + rows * (HEIGHT + HEAD_HEIGHT)}"`;
  const panels = parts.map((part, i) => {
    const [x, y] = [(i % 2) * WIDTH, TITLE_HEIGHT + Math.floor(i / 2) * (HEIGHT + HEAD_HEIGHT)];
    return `<text x="${x + 20}" y="${y + 26}" style="font-weight:600">${part.title}</text>${panel(part, document, x, y + HEAD_HEIGHT)}`;
  });
  const ground = '<rect width="100%" height="100%" rx="10" fill="#fefefe"/>';
  const title = `<title>${TITLE}</title><text x="20" y="28" style="font-size:17px;font-weight:600">${TITLE}</text>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img"><style>svg{color:#1f2328;${FONT}}</style>${ground}${title}\n${panels.join('\n')}\n</svg>\n`;
}

function panel({ by, table, times }: Part, document: plot.PlotOptions['document'], x: number, y: number): string {
  const sizes = [...table.keys()];
  const points = [...table].flatMap(([size, row]) => times.map(of => ({ size, of, time: row[of] ?? Number.NaN })));
  const last = points.filter(({ size }) => size === Math.max(...sizes));
  const drawn = plot.plot({
    document,
    width: WIDTH,
    height: HEIGHT,
    marginLeft: 50,
    marginRight: 120,
    style: { background: 'none', overflow: 'visible' },
    x: { type: 'log', base: baseOf(sizes), label: `${by} →`, ticks: sizes, tickFormat: short },
    y: { type: 'log', label: '↑ µs of one operation', grid: true, ticks: ticksOf(points), tickFormat: String },
    color: { type: 'ordinal', domain: [...times], range: COLOURS },
    marks: [
      plot.lineY(points, { x: 'size', y: 'time', stroke: 'of', strokeWidth: 2 }),
      plot.dot(points, { x: 'size', y: 'time', fill: 'of', r: 3 }),
      plot.text(last, { x: 'size', y: 'time', text: 'of', fill: 'of', dx: 8, textAnchor: 'start' }),
    ],
  });
  const svg = drawn.outerHTML.replace(/\d+\.\d{3,}/g, (digits: string) => String(Number(Number(digits).toFixed(2))));
  return svg.replace('<svg ', `<svg x="${x}" y="${y}" `);
}

/** The base of a logarithmic scale on which all sizes get a label. */
const baseOf = (sizes: readonly number[]): number => (sizes.every(size => Number.isInteger(Math.log2(size))) ? 2 : 10);

/** A number of things, such as 8, 10k or 1M. */
function short(count: number): string {
  if (count >= 1e6) return `${count / 1e6}M`;
  return count >= 1e3 ? `${count / 1e3}k` : String(count);
}

/** The numbers 1, 2 and 5 of all decades that lie between the least and the greatest time. */
function ticksOf(points: readonly { readonly time: number }[]): number[] {
  const times = points.map(({ time }) => time).filter(Number.isFinite);
  const [least, greatest] = [Math.min(...times), Math.max(...times)];
  const decades = Array.from({ length: 12 }, (_, i) => i - 4);
  const all = decades.flatMap(decade => [1, 2, 5].map(digit => Number(`${digit}e${decade}`)));
  return all.filter(tick => tick >= least && tick <= greatest);
}
