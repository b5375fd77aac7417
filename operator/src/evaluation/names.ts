import { createHash } from 'node:crypto';

// A Job's name becomes a pod's name and a label value: both end at 63 characters, and the Job controller appends
// `-` and five random ones to the pod.
const MAX_JOB_NAME = 57;

/**
 * `<name>-<8 hex of the uid>-<attempt>`: the same for every process at every time, so that a second try after a crash
 * meets the first one's Job instead of starting another; and different when a name is used again.
 */
export function jobName(evaluation: { name: string; uid: string }, attempt: number): string {
  const hash = createHash('sha256').update(evaluation.uid).digest('hex').slice(0, 8);
  const suffix = `-${hash}-${attempt}`;
  const room = MAX_JOB_NAME - suffix.length;
  // Names may contain dots; a Job's name may too, but the pod's host name, made from it, is nicer without.
  const stem = evaluation.name.replaceAll('.', '-').slice(0, room).replace(/-+$/, '');
  return `${stem}${suffix}`;
}

/**
 * The value of a label: at most 63 characters, begins and ends alphanumeric. A name too long for it is cut: people read
 * it, code compares uids.
 */
export function labelValue(name: string): string {
  return name.slice(0, 63).replace(/[^A-Za-z0-9]+$/, '');
}

export function objectKey(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}

export function splitKey(key: string): { namespace: string; name: string } {
  const slash = key.indexOf('/');
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
