-- Who may do what: the whole truth, applied anew after every migration in the same transaction. Everything is taken
-- away first, so a right that is not listed here does not exist. No role may delete anything.
REVOKE ALL ON ALL TABLES IN SCHEMA crucible FROM PUBLIC, crucible_operator, crucible_recorder, crucible_api;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA crucible FROM PUBLIC, crucible_operator, crucible_recorder, crucible_api;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA crucible FROM PUBLIC, crucible_operator, crucible_recorder, crucible_api;
REVOKE ALL ON SCHEMA crucible FROM PUBLIC, crucible_operator, crucible_recorder, crucible_api;

GRANT USAGE ON SCHEMA crucible TO crucible_operator, crucible_recorder, crucible_api;
-- Every process waits until the schema is as new as its code.
GRANT SELECT ON crucible.schema_migrations TO crucible_operator, crucible_recorder, crucible_api;

-- The operator judges: it alone writes evaluations and attempts. Output it only reads.
GRANT SELECT ON crucible.evaluations, crucible.attempts, crucible.captures, crucible.streams, crucible.output_chunks,
  crucible.artifacts, crucible.events, crucible.event_positions TO crucible_operator;
GRANT INSERT (uid, namespace, namespace_uid, name, generation, spec, labels, phase, priority, runtime, created_at, epoch)
  ON crucible.evaluations TO crucible_operator;
GRANT UPDATE (generation, spec, labels, phase, priority, queue_reason, queue_message, refused, verdict, passed, passed_reason, passed_message, finished_at,
  accepted_attempt, epoch) ON crucible.evaluations TO crucible_operator;
GRANT INSERT (evaluation_uid, number, job_name, image, runtime_class, timeout_seconds, accepted_risks, inputs, epoch)
  ON crucible.attempts TO crucible_operator;
-- image to accepted_risks: until there is a Job, which guard_attempt sees to.
GRANT UPDATE (image, runtime_class, timeout_seconds, accepted_risks, job_uid, pod_name, pod_uid, node, image_digest, state, epoch, started_at,
  finished_at, finalized_at, exit_code, signal, verdict, ending, receipt) ON crucible.attempts TO crucible_operator;
GRANT EXECUTE ON FUNCTION crucible.append_event TO crucible_operator;
-- What the cluster tells of a run: through the function alone, which bounds it. It never reads it again.
GRANT EXECUTE ON FUNCTION crucible.keep_kubernetes_events TO crucible_operator;
-- It watches the namespaces, and it alone sees that an Evaluation is not admitted, or gone before it was.
GRANT SELECT ON crucible.namespaces, crucible.submissions TO crucible_operator;
GRANT EXECUTE ON FUNCTION crucible.observe_namespace, crucible.end_namespace, crucible.withdraw_submission,
  crucible.tell_not_admitted TO crucible_operator;
-- Suites are its own as well.
GRANT SELECT ON crucible.suites, crucible.suite_cells, crucible.suite_runs, crucible.suite_events TO crucible_operator;
GRANT INSERT (uid, namespace, namespace_uid, name, generation, spec, labels, phase, total, created_at, epoch)
  ON crucible.suites TO crucible_operator;
GRANT UPDATE (generation, spec, labels, phase, reason, message, summary, finished_at, epoch) ON crucible.suites TO crucible_operator;
GRANT INSERT (suite_uid, cell, parameters), UPDATE (summary) ON crucible.suite_cells TO crucible_operator;
GRANT INSERT (suite_uid, cell, sample, evaluation_uid, evaluation_name),
  UPDATE (outcome, verdict_class, attempts, finished_at) ON crucible.suite_runs TO crucible_operator;
GRANT EXECUTE ON FUNCTION crucible.append_suite_event TO crucible_operator;
-- It drills, and adds what it found to the history; it changes and deletes nothing of it.
GRANT SELECT, INSERT ON crucible.drills, crucible.drill_findings TO crucible_operator;
GRANT SELECT ON crucible.drill_knowledge TO crucible_operator;
GRANT EXECUTE ON FUNCTION crucible.expire_drills TO crucible_operator;

-- The recorder reads what the sandbox wrote, which is hostile: it sees no code, makes no verdict and writes output only.
GRANT SELECT (uid, namespace, namespace_uid, name, created_at, artifacts_deleted_at) ON crucible.evaluations TO crucible_recorder;
GRANT SELECT (evaluation_uid, number, job_name, job_uid, pod_name, pod_uid, state) ON crucible.attempts TO crucible_recorder;
GRANT SELECT ON crucible.captures, crucible.streams, crucible.output_chunks, crucible.artifacts TO crucible_recorder;
GRANT INSERT (evaluation_uid, attempt, pod_uid, recorder) ON crucible.captures TO crucible_recorder;
GRANT UPDATE (recorder, state, last_seq, missing, captured_at, complete, reason, artifacts_complete, summary, receipt)
  ON crucible.captures TO crucible_recorder;
GRANT INSERT (evaluation_uid, attempt, stream) ON crucible.streams TO crucible_recorder;
GRANT UPDATE (bytes, lines, gaps, truncated, complete, produced_bytes, sha256) ON crucible.streams TO crucible_recorder;
GRANT INSERT, UPDATE (byte_offset) ON crucible.output_chunks TO crucible_recorder;
GRANT INSERT ON crucible.artifacts TO crucible_recorder;
GRANT EXECUTE ON FUNCTION crucible.append_capture_event TO crucible_recorder;
-- Quota and retention: it deletes nothing itself, and the function nothing that is not a day old.
GRANT SELECT ON crucible.artifact_usage TO crucible_recorder;
GRANT EXECUTE ON FUNCTION crucible.lock_artifact_usage, crucible.expire, crucible.expire_suites,
  crucible.maintain_event_partitions TO crucible_recorder;
-- It also relays events: it reads them (a verdict is in what they tell) and has positions given, which it cannot choose.
GRANT SELECT ON crucible.events, crucible.event_positions TO crucible_recorder;
GRANT EXECUTE ON FUNCTION crucible.assign_positions TO crucible_recorder;

-- The API shows everything and changes nothing; whom it shows what is Kubernetes RBAC's decision. What it writes is that
-- somebody has submitted something, once, and not its state.
GRANT SELECT ON crucible.evaluations, crucible.attempts, crucible.captures, crucible.streams, crucible.output_chunks,
  crucible.artifacts, crucible.events, crucible.event_positions, crucible.artifact_usage, crucible.namespaces,
  crucible.submissions, crucible.evaluation_labels, crucible.namespace_usage, crucible.kubernetes_events,
  crucible.drills, crucible.drill_findings TO crucible_api;
GRANT EXECUTE ON FUNCTION crucible.record_submission TO crucible_api;
GRANT SELECT ON crucible.suites, crucible.suite_cells, crucible.suite_runs, crucible.suite_events TO crucible_api;
