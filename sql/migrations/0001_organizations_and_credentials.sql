-- Organizations (the tenants), their users and the credentials of both. Credentials are looked up
-- before the organization is known, so the primary keys of these tables are ids alone.

CREATE TABLE organizations (
    id text COLLATE "C" PRIMARY KEY
        DEFAULT 'org-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    name text NOT NULL UNIQUE CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Set while `harborguard org delete` deletes the data. The organization then has no credentials.
    deleted_at timestamptz
);

CREATE TABLE users (
    id text COLLATE "C" PRIMARY KEY
        DEFAULT 'usr-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    organization_id text COLLATE "C" NOT NULL REFERENCES organizations,
    email text NOT NULL UNIQUE CHECK (email = lower(email)),
    name text,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'ci', 'auditor', 'viewer')),
    status text NOT NULL CHECK (status IN ('invited', 'active', 'suspended')),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX users_organization_idx ON users (organization_id);

CREATE TABLE api_keys (
    id text COLLATE "C" PRIMARY KEY
        DEFAULT 'key-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    organization_id text COLLATE "C" NOT NULL REFERENCES organizations,
    name text NOT NULL CHECK (name <> ''),
    prefix text NOT NULL,
    sha256 bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'ci', 'auditor', 'viewer')),
    registry_id text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);

CREATE INDEX api_keys_organization_idx ON api_keys (organization_id);

CREATE TABLE personal_access_tokens (
    id text COLLATE "C" PRIMARY KEY
        DEFAULT 'pat-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    organization_id text COLLATE "C" NOT NULL REFERENCES organizations,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    name text NOT NULL CHECK (name <> ''),
    prefix text NOT NULL,
    sha256 bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);

CREATE INDEX personal_access_tokens_user_idx ON personal_access_tokens (user_id);
