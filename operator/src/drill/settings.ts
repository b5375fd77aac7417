import type { AcceptedRisk } from './gate.ts';

export interface DrillSettings {
  /** False: nothing is drilled, and every run says so. */
  readonly enabled: boolean;
  /** Evaluation namespace of the canaries; undefined: the first one. */
  readonly namespace: string | undefined;
  /** EvaluationRuntime of the canaries. */
  readonly runtime: string;
  /** Where the control pod tells what it reaches: http://host:port. */
  readonly controlUrl: string | undefined;
  /** While a class is closed, its drill is repeated. */
  readonly retrySeconds: number;
  /** One sandbox of each class in use stays and watches whether something answers it. */
  readonly watch: boolean;
  /** All attacks, on a schedule. 0: never. */
  readonly fullEverySeconds: number;
  /** Addresses whose traffic certainly stays in the cluster. */
  readonly metadataAddresses: readonly string[];
  readonly acceptedRisks: readonly AcceptedRisk[];
}
