/** When V8 optimizes: asked of V8 itself, in processes of their own, because its settings are those of a process. */
import { spawnSync } from 'node:child_process';
import t from 'tap';

/** A bit of V8's answer. Source: V8, src/runtime/runtime.h, OptimizationStatus::kOptimized. */
const OPTIMIZED = 1 << 4;
/** Of 100,000 calls each. */
const ROUNDS_MAX = 200;
const memory = new URL('../../src/sys/memory.js', import.meta.url).href;

/** For each of some steps, whether a function that is called often is optimized after it, at least in the end. */
function optimized(...steps: string[]): boolean[] {
  const program = `
    import * as memory from '${memory}';
    const add = (a, b) => a + b;
    const call = () => { for (let i = 0; i < 1e5; i++) add(i, 1); };
    %NeverOptimizeFunction(call); // or V8 would make the function part of it
    const isOptimized = () => (%GetOptimizationStatus(add) & ${OPTIMIZED}) !== 0;
    const moment = () => new Promise(resolve => setTimeout(resolve, 5)); // V8 optimizes on another thread
    const answers = [];
    for (const step of [${steps.join(',')}]) {
      step?.();
      for (let round = 0; round < ${ROUNDS_MAX} && !isOptimized(); round++) call(), await moment();
      answers.push(isOptimized());
    }
    console.log(JSON.stringify(answers));`;
  const words = ['--allow-natives-syntax', '--input-type=module', '-e', program];
  const { stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', env: {} });
  t.equal(stderr, '', 'V8 knows its settings');
  return JSON.parse(stdout);
}

t.strictSame(optimized('undefined'), [true], 'V8 optimizes what is called often');
const [later, now] = optimized('memory.optimizeLater', 'memory.optimizeNow');
if (process.versions.v8.startsWith('11.')) t.equal(later, false, 'optimizeLater has it wait');
t.equal(now, true, 'until optimizeNow');
t.end();
