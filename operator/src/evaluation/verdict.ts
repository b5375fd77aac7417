import { constants } from 'node:os';
import { clip, formatDuration } from '@crucible/crds';
import type { Attribution, Confidence, Verdict, VerdictClass } from '@crucible/crds';
import type { Pod } from './objects.ts';
import { disruption, hasStarted, isWithdrawn, ranSeconds, terminated } from './pod.ts';
import type { Terminated } from './pod.ts';

/** Everything a verdict may be concluded from. */
export interface Ending {
  /** As last seen; undefined when it is gone and was never seen to end. */
  readonly pod: Pod | undefined;
  /** The Evaluation asked for the end: spec.cancel, or it is being deleted. */
  readonly cancelled: boolean;
  readonly timeoutSeconds: number;
  /** The code has started, by the pod's status or because something that it wrote is stored. */
  readonly ran?: boolean;
  /** The recorded reason why the operator ended it before it was seen to start. */
  readonly ending?: Verdict | undefined;
  /**
   * The launcher's own summary. It comes out of the sandbox, so it never lifts blame from the code: it adds hints, and
   * says which of the code's own failures it was where the kubelet cannot know.
   */
  readonly summary?: LauncherSummary | undefined;
}

export interface LauncherSummary {
  readonly error?: string | undefined;
  /** A fork was refused, because as many processes ran as may. */
  readonly pidsLimitHit?: boolean | undefined;
  /** A working folder had no byte left when the code ended. */
  readonly diskFull?: boolean | undefined;
}

export type Evidence = NonNullable<Verdict['evidence']>[number];

// Exit codes the launcher gives a meaning, as GNU timeout and env do.
const EXIT_TIMED_OUT = 124;
const EXIT_LAUNCHER = 125;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;

const MAX_EVIDENCE = 8;

export function verdict(
  kind: VerdictClass,
  attributableTo: Attribution | undefined,
  message: string,
  evidence: readonly (Evidence | undefined)[] = [],
  confidence: Confidence = 'Confirmed',
): Verdict {
  return {
    class: kind,
    ...(attributableTo !== undefined && { attributableTo }),
    confidence,
    message,
    evidence: evidence.filter((item) => item !== undefined).slice(0, MAX_EVIDENCE),
  };
}

function withEvidence(judged: Verdict, more: readonly (Evidence | undefined)[]): Verdict {
  const all = [...(judged.evidence ?? []), ...more].filter((item) => item !== undefined);
  return { ...judged, evidence: all.slice(0, MAX_EVIDENCE) };
}

export function evidence(source: string, detail: string): Evidence {
  return { source, detail: clip(detail.replaceAll(/\s+/g, ' ').trim(), 256) };
}

/** The source of the evidence by which such an ending is known. */
export const KUEUE_STOP = 'Job/Suspended';

export function isKueueStop(judged: Verdict | undefined): boolean {
  return judged?.evidence?.some(({ source }) => source === KUEUE_STOP) === true;
}

/**
 * What happened, whose fault it was, and how we know. Pure, and from the kubelet's account alone. The order matters: a
 * cause from outside (a lost node, an eviction) also leaves an exit code behind, which must not be taken for the program's.
 */
export function judge(ending: Ending): Verdict {
  const { pod } = ending;
  if (pod === undefined) return vanished(ending);
  return (
    outOfMemory(pod) ??
    fromOutside(pod, ending) ??
    endedByDeadline(pod, ending) ??
    ownEnd(pod, ending) ??
    withoutContainer(pod, ending)
  );
}

/** The exit code and signal to show beside the verdict. */
export function exitOf(pod: Pod | undefined): { exitCode?: number; signal?: string } {
  const ended = pod && terminated(pod);
  if (!ended || !hasStarted(pod)) return {};
  const signal = signalOf(ended);
  return { exitCode: ended.exitCode, ...(signal !== undefined && { signal }) };
}

function vanished({ cancelled, ending }: Ending): Verdict {
  if (ending !== undefined && isKueueStop(ending)) return ending;
  if (cancelled)
    return verdict(
      'Cancelled',
      'User',
      'Cancelled; the pod was gone before its result was read.',
      [evidence('Pod', 'no longer exists')],
      'Probable',
    );
  return verdict(
    'InternalError',
    'Infrastructure',
    'The pod disappeared before its result was read: it was deleted from outside of Crucible, or its node was removed.',
    [evidence('Pod', 'no longer exists')],
    'Probable',
  );
}

function outOfMemory(pod: Pod): Verdict | undefined {
  const ended = terminated(pod);
  if (ended?.reason !== 'OOMKilled') return undefined;
  return verdict(
    'OutOfMemory',
    'Code',
    'The code used more memory than it may (files in /work and /tmp count too). Use less, or raise spec.resources.memory.',
    [container(ended)],
  );
}

// The kubelet's words for a pod over its own limit; a node that is short of disk says that it was low on a resource.
const OWN_LIMIT =
  /EmptyDir volume .* exceeds the limit|ephemeral (local )?storage usage exceeds|exceeded its local ephemeral storage limit/i;

function fromOutside(pod: Pod, { cancelled, ending }: Ending): Verdict | undefined {
  const { reason = '', message = '' } = pod.status ?? {};
  const target = disruption(pod);
  const facts = [
    reason === '' ? undefined : evidence('Pod/status', `${reason}: ${message}`),
    target && evidence('Pod/DisruptionTarget', `${target.reason}: ${target.message}`),
  ];
  const ended = terminated(pod);
  // A container that was never made is lost track of as well when the deadline ends its pod; that reason is known.
  const unknown = ended?.reason === 'ContainerStatusUnknown' && reason !== 'DeadlineExceeded';
  if (ended !== undefined) facts.push(container(ended));
  const deleted = pod.metadata.deletionTimestamp !== undefined;

  if (deleted && ending !== undefined && isKueueStop(ending))
    return withEvidence(ending, facts);
  if (reason === 'Evicted' && OWN_LIMIT.test(message) && !/low on resource/i.test(message)) {
    return verdict(
      'DiskExceeded',
      'Code',
      'The code wrote more to disk than it may. Write less, or raise spec.resources.disk.',
      facts,
    );
  }
  if (target?.reason === 'PreemptionByScheduler' || reason === 'Preempting') {
    return verdict(
      'Preempted',
      'Infrastructure',
      'The cluster gave this run’s place to a pod of higher priority.',
      facts,
    );
  }
  if (
    reason === 'NodeLost' ||
    unknown ||
    target?.reason === 'DeletionByTaintManager' ||
    target?.reason === 'DeletionByPodGC'
  ) {
    return verdict(
      'NodeLost',
      'Infrastructure',
      'The node that ran this was lost before the run ended.',
      facts,
      unknown ? 'Probable' : 'Confirmed',
    );
  }
  if (reason === 'Evicted' || target !== undefined || reason === 'Terminated' || reason === 'NodeShutdown') {
    return verdict(
      'Evicted',
      'Infrastructure',
      'The node ran short of resources or was being emptied, and ended this run.',
      facts,
    );
  }
  return deleted && !cancelled ? deletedByOthers(pod) : undefined;
}

// Only when it was stopped by it: a program that had ended before keeps its own end.
function deletedByOthers(pod: Pod): Verdict | undefined {
  const ended = terminated(pod);
  if (ended === undefined && !hasStarted(pod)) return undefined;
  if (ended === undefined)
    return verdict(
      'NodeLost',
      'Infrastructure',
      'The node that ran this stopped answering and its pod was given up.',
      [evidence('Pod', 'deleted, and its node never said how it ended')],
      'Probable',
    );
  if (!['SIGTERM', 'SIGKILL'].includes(signalOf(ended) ?? '')) return undefined;
  const facts = [container(ended), evidence('Pod', 'was deleted while it ran')];
  return verdict(
    'InternalError',
    'Infrastructure',
    'The pod was deleted from outside of Crucible while the code ran.',
    facts,
    'Probable',
  );
}

function endedByDeadline(pod: Pod, { cancelled, timeoutSeconds, ...ending }: Ending): Verdict | undefined {
  const ran = ranSeconds(pod);
  const ended = terminated(pod);
  const byKubelet = pod.status?.reason === 'DeadlineExceeded';
  const facts = [
    byKubelet ? evidence('Pod/status', `DeadlineExceeded: ${pod.status?.message ?? ''}`) : undefined,
    ended && container(ended),
    ran === undefined ? undefined : evidence('Kubelet', `ran ${ran} s, allowed ${timeoutSeconds} s`),
  ];
  const overran = ran !== undefined && ran >= timeoutSeconds;
  // The kubelet's times are whole seconds: at the boundary only an end by signal or by the launcher's own code counts
  // as a timeout.
  const stopped = ended !== undefined && (ended.exitCode === EXIT_TIMED_OUT || ended.exitCode > 128);
  if (overran && (byKubelet || stopped || (ran > timeoutSeconds + 1 && ended?.exitCode !== 0))) {
    return verdict(
      'TimedOut',
      'Code',
      `The code did not finish within its ${formatDuration(timeoutSeconds)}. Make it faster, or raise spec.timeoutSeconds.`,
      facts,
    );
  }
  if (!byKubelet) return undefined;
  if (!hasStarted(pod) && ending.ran !== true) return endedBeforeStart(cancelled, ending.ending, facts);
  if (cancelled) return verdict('Cancelled', 'User', 'Cancelled while it ran; its output until then is kept.', facts);
  const said = ending.ending && evidence('Operator', `${ending.ending.class}: ${ending.ending.message ?? ''}`);
  return verdict(
    'InternalError',
    'Infrastructure',
    said === undefined
      ? 'The run was ended before its time was up, and nobody had cancelled it.'
      : 'The code started only when the wait for it was over, and was ended.',
    [...facts, said],
  );
}

function endedBeforeStart(
  cancelled: boolean,
  ending: Verdict | undefined,
  facts: readonly (Evidence | undefined)[],
): Verdict {
  if (ending !== undefined) return ending;
  if (cancelled) return verdict('Cancelled', 'User', 'Cancelled before the code started.', facts);
  return verdict('InternalError', 'Infrastructure', 'The code had not started when the time for that was over.', facts);
}

function ownEnd(pod: Pod, { summary, cancelled }: Ending): Verdict | undefined {
  const ended = terminated(pod);
  if (ended === undefined) return undefined;
  const facts = [container(ended)];
  if (!hasStarted(pod)) return couldNotStart(ended, facts);
  const { exitCode } = ended;
  if (exitCode === 0) return verdict('Succeeded', undefined, 'The code ran and exited with code 0.', facts);
  const signal = signalOf(ended);
  if (signal !== undefined) {
    if (cancelled && (signal === 'SIGTERM' || signal === 'SIGKILL')) {
      return verdict('Cancelled', 'User', 'Cancelled while it ran; its output until then is kept.', facts, 'Probable');
    }
    const limit = ownLimit(summary, facts);
    if (limit !== undefined) return limit;
    // 128 + n is how the launcher reports a signal; a program may exit with such a code itself.
    return verdict(
      'Signalled',
      'Code',
      `The code was ended by ${signal}${SIGNAL_HINTS[signal] ?? ''}.`,
      facts,
      'Probable',
    );
  }
  const limit = ownLimit(summary, facts);
  if (limit !== undefined) return limit;
  if (exitCode === EXIT_NOT_FOUND) {
    return verdict(
      'NonZeroExit',
      'User',
      'Exit code 127: the command was not found in the image, or the code itself exited so.',
      facts,
      'Probable',
    );
  }
  if (exitCode === EXIT_NOT_EXECUTABLE) {
    return verdict(
      'NonZeroExit',
      'User',
      'Exit code 126: the command is not executable, or the code itself exited so.',
      facts,
      'Probable',
    );
  }
  if (exitCode === EXIT_LAUNCHER) {
    const hint = summary?.error ? evidence('Launcher (unverified)', summary.error) : undefined;
    return verdict(
      'NonZeroExit',
      'Code',
      'Exit code 125: the launcher could not run the code, or the code itself exited so.',
      [...facts, hint],
      'Probable',
    );
  }
  return verdict('NonZeroExit', 'Code', `The code exited with code ${exitCode}.`, facts);
}

/** A limit that only the launcher sees being hit. Who forges it turns one failure of his own into another. */
function ownLimit(summary: LauncherSummary | undefined, facts: readonly Evidence[]): Verdict | undefined {
  const told = (detail: string): Evidence[] => [...facts, evidence('Launcher (unverified)', detail)];
  if (summary?.pidsLimitHit === true) {
    const message = 'The code failed after it had started as many processes and threads as it may. Start fewer at once.';
    return verdict('PidsExceeded', 'Code', message, told('the process limit was hit'), 'Probable');
  }
  if (summary?.diskFull === true) {
    const message = 'The code failed and had filled its working folder. Write less, or raise spec.resources.disk.';
    return verdict('DiskExceeded', 'Code', message, told('no byte was left in a working folder'), 'Probable');
  }
  return undefined;
}

function couldNotStart(ended: Terminated, facts: Evidence[]): Verdict {
  const detail = ended.message ?? '';
  if (/runtime handler|no runtime for|runtimeclass/i.test(detail)) {
    return verdict(
      'SandboxRefused',
      'Policy',
      'The node does not offer the sandbox runtime that this run asks for.',
      facts,
    );
  }
  return verdict(
    'InvalidImage',
    'User',
    'The image could be pulled but its container could not be started. Check that it is built for this platform and, with spec.image, spec.command.',
    [...facts, detail === '' ? undefined : evidence('Container', detail)],
  );
}

function withoutContainer(pod: Pod, { cancelled, ran, ending }: Ending): Verdict {
  const { reason = '', message = '' } = pod.status ?? {};
  const facts = [evidence('Pod/status', `${pod.status?.phase ?? 'Unknown'} ${reason}: ${message}`)];
  if (ran === true)
    return cancelled
      ? verdict('Cancelled', 'User', 'Cancelled while it ran; its output until then is kept.', facts)
      : verdict('InternalError', 'Infrastructure', 'The pod ended, and its node did not say how the code did.', facts);
  if (isWithdrawn(pod) && ending !== undefined) return ending;
  if (cancelled) return verdict('Cancelled', 'User', 'Cancelled before the code started.', facts);
  if (isWithdrawn(pod))
    return verdict(
      'InternalError',
      'Infrastructure',
      'The pod was deleted from outside of Crucible before it had a node.',
      facts,
    );
  if (/^OutOf|NodeAffinity|UnexpectedAdmissionError|TopologyAffinity/.test(reason)) {
    return verdict(
      'Unschedulable',
      'Infrastructure',
      'The node refused the pod: it had no room for it after all.',
      facts,
    );
  }
  return verdict('InternalError', 'Infrastructure', 'The pod ended before the code was started.', facts);
}

function container(ended: Terminated): Evidence {
  return evidence('Container', `${ended.reason ?? 'Terminated'}, exit code ${ended.exitCode}`);
}

const SIGNAL_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.signals)
    .filter(([name]) => !['SIGIOT', 'SIGPOLL', 'SIGUNUSED'].includes(name))
    .map(([name, number]) => [number, name]),
);

const SIGNAL_HINTS: Readonly<Record<string, string>> = {
  SIGSEGV: ' (a memory access that is not allowed)',
  SIGABRT: ' (it aborted itself)',
  SIGXFSZ: ' (a file grew over the limit)',
  SIGSYS: ' (a system call the sandbox does not allow)',
};

function signalOf(ended: Terminated): string | undefined {
  const number = ended.signal !== undefined && ended.signal > 0 ? ended.signal : ended.exitCode - 128;
  return number > 0 ? SIGNAL_NAMES.get(number) : undefined;
}
