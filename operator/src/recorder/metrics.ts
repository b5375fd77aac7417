import { RETENTION_CLASSES } from '@crucible/storage';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

export const RESULTS = ['complete', 'incomplete'] as const;
export const READS = ['follow', 'final'] as const;
/** `left`: a follow that the recorder ended, because its container had. */
export const READ_ENDS = ['end', 'left', 'cut', 'flood'] as const;

/** Zero-initialised, fixed label values: a series that appears only with the first error cannot be alerted on. */
export class RecorderMetrics {
  readonly bytes: Counter<'stream'>;
  readonly follows: Gauge;
  readonly reads: Counter<'read' | 'end'>;
  readonly captures: Counter<'result'>;
  readonly pods: Gauge;
  readonly foreignLines: Counter;
  readonly artifacts: Counter<'result'>;
  readonly contradictions: Counter;
  readonly spooled: Counter;
  readonly stalls: Counter;
  readonly untrusted: Counter;
  readonly captureSeconds: Histogram;
  readonly expired: Counter<'class'>;
  readonly sweptBytes: Counter;

  readonly #registry: Registry;

  constructor(registry: Registry, databaseUp: () => boolean = () => true) {
    this.#registry = registry;
    const registers = [registry];
    const name = (suffix: string): string => `crucible_recorder_${suffix}`;
    this.bytes = new Counter({
      name: name('bytes_total'),
      help: 'Output bytes written to Postgres.',
      labelNames: ['stream'],
      registers,
    });
    this.follows = new Gauge({ name: name('follows'), help: 'Logs being followed now.', registers });
    this.reads = new Counter({
      name: name('reads_total'),
      help: 'Log reads by how they ended.',
      labelNames: ['read', 'end'],
      registers,
    });
    this.captures = new Counter({
      name: name('captures_total'),
      help: 'Captures finished.',
      labelNames: ['result'],
      registers,
    });
    this.pods = new Gauge({ name: name('pods'), help: 'Sandbox pods not captured yet.', registers });
    this.foreignLines = new Counter({
      name: name('foreign_lines_total'),
      help: 'Log lines that are not frames, in final reads.',
      registers,
    });
    this.artifacts = new Counter({
      name: name('artifacts_total'),
      help: 'Artifacts stored or refused.',
      labelNames: ['result'],
      registers,
    });
    this.contradictions = new Counter({
      name: name('contradictions_total'),
      help: 'Stored chunks that the final read contradicts.',
      registers,
    });
    this.spooled = new Counter({
      name: name('spooled_bytes_total'),
      help: 'Frame bytes spooled while Postgres was away.',
      registers,
    });
    this.stalls = new Counter({
      name: name('stalls_total'),
      help: 'Times a read had to wait because the spool refused.',
      registers,
    });
    this.untrusted = new Counter({
      name: name('untrusted_pods_total'),
      help: 'Pods that no known attempt vouches for.',
      registers,
    });
    this.captureSeconds = new Histogram({
      name: name('capture_lag_seconds'),
      help: 'From the container seen terminated to its output captured.',
      buckets: [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300],
      registers,
    });
    this.expired = new Counter({
      name: name('expired_runs_total'),
      help: 'Runs of which retention deleted something.',
      labelNames: ['class'],
      registers,
    });
    this.sweptBytes = new Counter({
      name: name('swept_bytes_total'),
      help: 'Bytes of files that no artifact named, deleted from the file store.',
      registers,
    });
    for (const kind of RETENTION_CLASSES) this.expired.inc({ class: kind }, 0);
    new Gauge({
      name: name('database_up'),
      help: 'Whether Postgres answers.',
      registers,
      collect() {
        this.set(databaseUp() ? 1 : 0);
      },
    });
    for (const stream of ['stdout', 'stderr']) this.bytes.inc({ stream }, 0);
    for (const result of RESULTS) this.captures.inc({ result }, 0);
    for (const read of READS) for (const end of READ_ENDS) this.reads.inc({ read, end }, 0);
    for (const result of ['stored', 'refused']) this.artifacts.inc({ result }, 0);
  }

  /** Kept by who announces; a counter that is read, not written. */
  countAnnouncements(announced: () => number): void {
    new Counter({
      name: 'crucible_recorder_announcements_total',
      help: 'Messages through Redis that there is more output.',
      registers: [this.#registry],
      collect() {
        this.reset();
        this.inc(announced());
      },
    });
  }
}
