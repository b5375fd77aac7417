export * from './types.ts';
export {
  ConflictError, FencedError, IntegrityError, LimitError, MigrationError, MissingContentError, NotFoundError, QueryError,
  StorageError, UnavailableError, isConflict, isUnavailable,
} from './errors.ts';
export { Database, connect } from './database.ts';
export type { DatabaseOptions, Queryable, Transaction } from './database.ts';
export type { ListenSignal, Listener } from './listen.ts';
export { migrate } from './migrations.ts';
export type { MigrateOptions } from './migrations.ts';
export { ROLES } from './roles.ts';
export type { RoleName, RolePasswords } from './roles.ts';
export { SCHEMA_VERSION, schemaReady, waitForSchema } from './schema.ts';
export { EvaluationRepository } from './evaluations.ts';
export { AttemptRepository } from './attempts.ts';
export { CaptureRepository } from './captures.ts';
export { MAX_CHUNK_BYTES } from './capture-rules.ts';
export { MAX_READ_BYTES } from './output.ts';
export { ArtifactRepository } from './artifacts.ts';
export { QUOTA_REASON } from './artifact-rules.ts';
export type { ArtifactRules } from './artifact-rules.ts';
export { RETENTION_CLASSES, expire, sweepFiles } from './retention.ts';
export type { RetentionClass, SweepResult } from './retention.ts';
export { EventRepository } from './events.ts';
export type { FileInfo, FileStore, StoredFile } from './files.ts';
export { DirectoryFileStore } from './directory-files.ts';
export type { DirectoryFileStoreOptions } from './directory-files.ts';
export { S3FileStore } from './s3-files.ts';
export type { S3FileStoreOptions } from './s3-files.ts';
export { openFileStore, parseFileStoreUrl } from './file-store-url.ts';
export type { FileStoreCredentials, FileStoreLocation } from './file-store-url.ts';
