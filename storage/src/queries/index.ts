// What the API reads, with the rights of crucible_api. Each function takes the scope, UIDs of namespaces that the caller
// may read: what is outside of it is not there.
export type { Scope } from './scope.ts';
export { parseLabelSelector } from './label-selector.ts';
export type { LabelRequirement } from './label-selector.ts';
export { listEvaluations } from './evaluation-list.ts';
export type { EvaluationFilter, EvaluationSummary, Page } from './evaluation-list.ts';
export { READS_BY_KEY } from './by-key.ts';
export { findOwner, readEvaluation, readState, readSubmission } from './evaluation-detail.ts';
export type { AttemptDetail, EvaluationDetail, EvaluationOwner, EvaluationState } from './evaluation-detail.ts';
export { readComplete } from './complete.ts';
export type { CompleteEvaluation } from './complete.ts';
export { buildTimeline } from './timeline.ts';
export type { TimelineEntry } from './timeline.ts';
export { readPosition, readPositions, readQueue } from './queue.ts';
export type { Queue, QueueItem, QueueStage } from './queue.ts';
export { listEventsAfter, listRunEvents } from './event-log.ts';
export type { EventBatch } from './event-log.ts';
export { currentAttempt, findArtifact, listArtifacts, readOutputRange, readStream } from './run-output.ts';
export type { ArtifactItem, OutputRange, RunKey, StreamInfo } from './run-output.ts';
export { listStorageLocations } from './storage-locations.ts';
export type { StorageBackends, StorageLocation } from './storage-locations.ts';
export { listDatabaseItems, listFileItems, listRedisItems, readStorageTotals } from './storage-overview.ts';
export type { DatabaseItem, FileItem, RedisItem, StorageTotals } from './storage-overview.ts';
export { listSuiteEvents, listSuiteRuns, listSuites, readSuite } from './suites.ts';
export type { SuiteCellRow, SuiteDetail, SuiteEventRow, SuiteFilter, SuiteRunRow, SuiteSummaryRow } from './suites.ts';
export { listDrills } from './drills.ts';
export type { DrillFilter } from './drills.ts';
