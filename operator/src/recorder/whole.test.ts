import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { LogPass, type PassOptions } from './pass.ts';
import { doubtOf, type Doubt, type WholeFacts } from './whole.ts';

const CONTAINER = { id: 'containerd://x', restarted: false, ended: false };
const ENDED = { ...CONTAINER, ended: true };
const STREAMS = { stdout: { bytes: 6, lines: 1 }, stderr: { bytes: 0, lines: 0 } };

async function read(...lines: string[]): Promise<LogPass> {
  const pass = new LogPass({} as PassOptions); // neither files nor quota: there is no artifact
  await pass.read(Readable.from([Buffer.from(lines.join('\n'))]), () => undefined, () => undefined);
  return pass;
}

async function facts(lines: string[] = ['1 r|{}', '2 o|hello', '3 s|{}', '']): Promise<WholeFacts> {
  const pass = await read(...lines);
  const position = { lastSeq: pass.sequence.lastSeq, missing: [], streams: STREAMS };
  return { fresh: true, passes: 1, end: 'end', container: CONTAINER, ended: ENDED, pass, position, direct: true };
}

it('does not doubt one follow, of the container that has ended, that saw each number once and the summary last', async () => {
  expect(doubtOf(await facts())).toBeUndefined();
  expect(doubtOf({ ...(await facts()), end: 'left' })).toBeUndefined();
  const unnamed = { ...(await facts()), container: { ...CONTAINER, id: undefined }, ended: { ...ENDED, id: undefined } };
  expect(doubtOf(unnamed)).toBeUndefined();
});

const elsewhere = { lastSeq: 2, missing: [], streams: STREAMS };
it.each<[Doubt, string, Partial<WholeFacts>]>([
  ['NotFresh', 'something was there before', { fresh: false }],
  ['NotOnePass', 'it was never followed', { passes: 0 }],
  ['NotOnePass', 'it was followed twice', { passes: 2 }],
  ['NotReadToItsEnd', 'the follow was cut', { end: 'cut' }],
  ['NotReadToItsEnd', 'there was too much', { end: 'flood' }],
  ['NotEnded', 'the pod is gone', { ended: undefined }],
  ['NotEnded', 'the kubelet has not said that the container has ended', { ended: CONTAINER }],
  ['OtherContainer', 'it was restarted', { ended: { ...ENDED, restarted: true } }],
  ['OtherContainer', 'another has ended', { ended: { ...ENDED, id: 'containerd://y' } }],
  ['OtherContainer', 'the followed one is not known', { container: undefined }],
  ['NotStoredDirectly', 'some was spooled, or stored by others', { direct: false }],
  ['NotAllStored', 'the record ends before', { position: elsewhere }],
  ['NotAllStored', 'the record goes on', { position: { ...elsewhere, lastSeq: 4 } }],
  ['NotAllStored', 'the record misses some', { position: { ...elsewhere, lastSeq: 3, missing: [{ from: 2, to: 2 }] } }],
])('%s: %s', async (doubt, _, change) => {
  expect(doubtOf({ ...(await facts()), ...change })).toBe(doubt);
});

it.each<[Doubt, string, string[]]>([
  ['NotOnlyFrames', 'a foreign line', ['1 r|{}', 'hello', '2 s|{}', '']],
  ['NotOnlyFrames', 'a line that is too long', ['1 r|{}', `2 o|${'x'.repeat(20_000)}`, '2 s|{}', '']],
  ['NotOnlyFrames', 'part of a line behind the summary', ['1 r|{}', '2 s|{}', '3 o|hel']],
  ['NotEveryNumber', 'a gap', ['1 r|{}', '3 s|{}', '']],
  ['NotEveryNumber', 'a gap that was filled late', ['1 r|{}', '3 o|x', '2 o|x', '4 s|{}', '']],
  ['NotEveryNumber', 'a gap at the beginning', ['2 o|hello', '3 s|{}', '']],
  ['NotEveryNumber', 'a number twice', ['1 r|{}', '1 r|{}', '2 s|{}', '']],
  ['NotTheSummaryLast', 'nothing at all', ['']],
  ['NotTheSummaryLast', 'no summary', ['1 r|{}', '2 o|hello', '']],
  ['NotTheSummaryLast', 'something behind the summary', ['1 r|{}', '2 s|{}', '3 o|hello', '']],
])('%s: %s', async (doubt, _, lines) => {
  expect(doubtOf(await facts(lines))).toBe(doubt);
});
