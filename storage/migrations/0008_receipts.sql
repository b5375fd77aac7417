-- What is known of an attempt's containment (docs/receipt.md): what its launcher measured, beside what Kubernetes says of
-- its pod. Written by the operator with the attempt's end, and as final as that (guard_attempt); what the sandbox itself
-- sent stays in captures.receipt.
ALTER TABLE crucible.attempts ADD COLUMN receipt jsonb;
