import { createHash } from 'node:crypto';
import { LABELS, LIMITS } from '@crucible/crds';
import type { EvaluationSpec } from '@crucible/crds';
import type { InputRecord } from '@crucible/storage';
import type { KubeObject } from '../kube/index.ts';
import type { Refusal, Run, RunFile } from './admission.ts';

// Files from ConfigMaps. Their content is copied into the attempt's own, immutable ConfigMap: what runs cannot be changed
// any more, the pod mounts nothing else than before, and the hash of what it was given is recorded.

export interface InputMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
  /** As base64. */
  readonly binaryData?: Readonly<Record<string, string>>;
}

export type Given =
  | { readonly admitted: true; readonly run: Run; readonly inputs: readonly InputRecord[] }
  | Refusal;

/** The names of the ConfigMaps that a spec refers to, each once. */
export function inputNames(spec: Pick<EvaluationSpec, 'files'> | undefined): string[] {
  return [...new Set((spec?.files ?? []).flatMap(({ configMapRef }) => configMapRef?.name ?? []))];
}

/**
 * The run with the content of every file. Refused like any other: the ConfigMap may appear, or be put right. `before` is
 * what the first attempt was given: another one is given the same, or nothing. Pure.
 */
export function resolveInputs(
  run: Run,
  found: ReadonlyMap<string, InputMap | undefined>,
  before: readonly InputRecord[] | undefined,
): Given {
  const files: RunFile[] = [];
  const inputs: InputRecord[] = [];
  for (const file of run.files) {
    if (file.configMapRef === undefined) {
      files.push(file);
      continue;
    }
    const { name, key } = file.configMapRef;
    const content = contentOf(found.get(name), name, key);
    if ('admitted' in content) return content;
    const { path } = file;
    const record = { path, configMap: name, key, bytes: content.bytes.length, sha256: sha256(content.bytes) };
    const first = before?.find((one) => one.path === path);
    if (first !== undefined && first.sha256 !== record.sha256)
      return refuse(
        'ConfigMapChanged',
        `Key "${key}" of ConfigMap "${name}" is not what the run was given at first, and a run does not change. Put it back, or create another Evaluation.`,
      );
    files.push({ path, ...content.file });
    inputs.push(record);
  }
  const total = inputs.reduce((sum, { bytes }) => sum + bytes, 0);
  if (total > LIMITS.referencedBytes)
    return refuse(
      'ConfigMapTooLarge',
      `The files from ConfigMaps are ${total} bytes together; ${LIMITS.referencedBytes} are allowed. Make them smaller, or put them into an image.`,
    );
  return { admitted: true, run: { ...run, files }, inputs };
}

type Content = { readonly file: Pick<RunFile, 'content' | 'base64'>; readonly bytes: Buffer };

function contentOf(configMap: InputMap | undefined, name: string, key: string): Content | Refusal {
  if (configMap === undefined)
    return refuse('ConfigMapNotFound', `There is no ConfigMap "${name}" in the namespace, which spec.files refers to. Create it, or correct spec.files in another Evaluation.`);
  // Who may create Evaluations need not be allowed to read ConfigMaps: without this, running code would be a way to.
  if (configMap.metadata.labels?.[LABELS.input] !== 'true')
    return refuse('ConfigMapNotShared', `ConfigMap "${name}" has no label ${LABELS.input}: "true", with which its owner lets Evaluations read it. Have it set: kubectl label configmap ${name} ${LABELS.input}=true`);
  const [text, base64] = [configMap.data?.[key], configMap.binaryData?.[key]];
  if (text !== undefined) return { file: { content: text }, bytes: Buffer.from(text, 'utf8') };
  if (base64 !== undefined) return { file: { base64 }, bytes: Buffer.from(base64, 'base64') };
  const keys = [...Object.keys(configMap.data ?? {}), ...Object.keys(configMap.binaryData ?? {})].sort().slice(0, 10);
  return refuse('ConfigMapKeyNotFound', `ConfigMap "${name}" has no key "${key}" (it has: ${keys.join(', ') || 'none'}). Add it, or correct spec.files in another Evaluation.`);
}

function refuse(reason: string, message: string): Refusal {
  return { admitted: false, reason, message };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
