import { parentPort } from 'node:worker_threads';
import { scoreOutput } from './expect.ts';
import type { ScoreTask } from './score-thread.ts';

// A thread of its own, started by score-thread.ts: what runs here can take for ever and is ended from outside.
parentPort?.on('message', ({ expected, stdout }: ScoreTask) => parentPort?.postMessage(scoreOutput(expected, stdout)));
parentPort?.postMessage('ready');
