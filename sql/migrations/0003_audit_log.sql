-- The audit log: one row for each action that changes what an organization has or who may use it.
-- The service only inserts and reads rows. The ids in target and actor are no foreign keys, so that
-- rows stay when the objects are deleted.

CREATE TABLE audit_log (
    organization_id text COLLATE "C" NOT NULL REFERENCES organizations,
    id text COLLATE "C" NOT NULL
        DEFAULT 'aud-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    actor text COLLATE "C" NOT NULL CHECK (actor <> ''),
    action text COLLATE "C" NOT NULL CHECK (action <> ''),
    target text COLLATE "C" NOT NULL CHECK (target <> ''),
    ip text,  -- the client's address as the service saw it; null for the command line
    -- Not now(), so that the actions of one transaction keep their order.
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (organization_id, id)
);

CREATE INDEX audit_log_created_at_idx ON audit_log (organization_id, created_at, id);
