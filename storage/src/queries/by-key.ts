import { SLICE } from '../output.ts';
import { ATTEMPTS, EVALUATION, STATE } from './evaluation-detail.ts';
import { STREAM } from './run-output.ts';

/**
 * The most frequent reads by the key of one run, for the `prepared` of connect(): one plan is right for every run. Lists are
 * not among them: their best plan depends on what is asked.
 */
export const READS_BY_KEY: ReadonlySet<string> = new Set([STATE, STREAM, SLICE, EVALUATION, ATTEMPTS]);
