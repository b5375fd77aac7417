// What others need of the way from an Evaluation to its pod: the API renders plans with the operator's own functions.
export { admit, type Admission, type ClusterFacts, type Run } from './evaluation/admission.ts';
export { buildJob, type AttemptIdentity } from './evaluation/job.ts';
export type { Namespace } from './evaluation/objects.ts';
export { pauseOf } from './evaluation/pause.ts';
export { allocateUid } from './evaluation/sandbox-uid.ts';
export type { Settings } from './evaluation/settings.ts';
export { readConfig as readOperatorConfig } from './config.ts';
export { explainFindings, type ExplainedRule } from './drill/explain.ts';
