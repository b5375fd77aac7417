import { expect, it } from 'vitest';
import { admit } from '../evaluation/admission.ts';
import { runtime, settings, snapshot } from '../evaluation/testing/builders.ts';
import type { KubeObject } from '../kube/index.ts';
import { parsedRuntime, readRuntimes } from './parsed.ts';

const good = runtime('python') as unknown as KubeObject;
const bad = runtime('old', { maximum: { resources: { cpu: 'a lot' } } }) as unknown as KubeObject;

it('reads each once', () => {
  expect(parsedRuntime(good)).toBe(parsedRuntime(good));
  expect(parsedRuntime({ ...good })).not.toBe(parsedRuntime(good));
});

it('a runtime that cannot be read refuses the runs that ask for it, naming the field, and no others', () => {
  const facts = { ...snapshot().cluster, ...readRuntimes([bad, good]) };
  expect(facts.runtimes.map(({ metadata }) => metadata.name)).toEqual(['python']);
  const admission = (name: string) => admit(snapshot({ spec: { runtime: name } }).evaluation!, facts, settings());
  expect(admission('old')).toMatchObject({ admitted: false, reason: 'RuntimeInvalid', message: expect.stringMatching(/"old".*spec\.maximum\.resources\.cpu/) });
  expect(admission('python')).toMatchObject({ admitted: true });
  expect(admission('none')).toMatchObject({ admitted: false, reason: 'RuntimeNotFound' });
});
