-- What is asked for: registries, images with the summary that the list reads, tags, scans, findings.
-- Every key begins with the organization, so that the tables can be distributed by it.

CREATE TABLE registries (
    organization_id text NOT NULL REFERENCES organizations,
    id text NOT NULL DEFAULT 'reg-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    host text COLLATE "C" NOT NULL CHECK (host = lower(host) AND host <> ''),
    name text NOT NULL CHECK (name <> ''),
    provider text NOT NULL DEFAULT 'generic',
    last_synced_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, host)
);

ALTER TABLE api_keys
    ADD FOREIGN KEY (organization_id, registry_id) REFERENCES registries (organization_id, id);

CREATE TABLE images (
    organization_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL DEFAULT 'img-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    registry_id text NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The summary: recomputed from tags and scans by refresh_image_summary.sql, never incremented.
    tag_count integer NOT NULL DEFAULT 0 CHECK (tag_count >= 0),
    latest_tag text COLLATE "C",
    latest_digest text COLLATE "C",
    scan_id text,  -- the scan that the score, the grade and the counts are of
    risk_score smallint CHECK (risk_score BETWEEN 0 AND 100),
    grade text CHECK (grade IN ('A', 'B', 'C', 'D')),
    critical integer NOT NULL DEFAULT 0 CHECK (critical >= 0),
    high integer NOT NULL DEFAULT 0 CHECK (high >= 0),
    medium integer NOT NULL DEFAULT 0 CHECK (medium >= 0),
    low integer NOT NULL DEFAULT 0 CHECK (low >= 0),
    last_scanned_at timestamptz,
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, name),
    FOREIGN KEY (organization_id, registry_id) REFERENCES registries (organization_id, id),
    -- Never scanned must never look clean.
    CHECK ((risk_score IS NULL) = (scan_id IS NULL)),
    CHECK ((risk_score IS NULL) = (grade IS NULL)),
    CHECK ((risk_score IS NULL) = (last_scanned_at IS NULL))
);

-- One covering index for each sort key. What a listing can filter by is INCLUDEd, so that rows are
-- counted and a page is found without reading the wide rows of the table.
CREATE INDEX images_created_at_idx ON images (organization_id, created_at, id)
    INCLUDE (name, risk_score, registry_id);
CREATE INDEX images_name_idx ON images (organization_id, name, id)
    INCLUDE (risk_score, registry_id);
CREATE INDEX images_risk_score_idx ON images (organization_id, risk_score, id)
    INCLUDE (name, registry_id);

-- A tag's name under one digest (null where the scan told none), with the times it was seen so.
-- Rows only ever widen (least, greatest), so the order of arrival does not matter. What an
-- unfinished scan saw is kept apart: it makes a tag known, and counts for nothing else.
CREATE TABLE tags (
    organization_id text NOT NULL,
    id text NOT NULL DEFAULT 'tag-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    image_id text NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    digest text COLLATE "C",
    is_confirmed boolean NOT NULL,
    built_at timestamptz,
    first_observed_at timestamptz NOT NULL,
    last_observed_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    UNIQUE NULLS NOT DISTINCT (organization_id, image_id, name, digest, is_confirmed),
    FOREIGN KEY (organization_id, image_id) REFERENCES images (organization_id, id)
);

CREATE TABLE scans (
    organization_id text NOT NULL,
    id text NOT NULL DEFAULT 'scan-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    image_id text NOT NULL,
    external_id text COLLATE "C" NOT NULL CHECK (external_id <> ''),
    content_sha256 bytea NOT NULL CHECK (octet_length(content_sha256) = 32),
    tag text COLLATE "C",
    digest text COLLATE "C",
    scanners text[] NOT NULL,
    status text NOT NULL CHECK (status IN ('SUCCESS', 'PARTIAL', 'FAILED', 'CANCELLED')),
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    critical integer NOT NULL CHECK (critical >= 0),
    high integer NOT NULL CHECK (high >= 0),
    medium integer NOT NULL CHECK (medium >= 0),
    low integer NOT NULL CHECK (low >= 0),
    risk_score smallint NOT NULL CHECK (risk_score BETWEEN 0 AND 100),
    grade text NOT NULL CHECK (grade IN ('A', 'B', 'C', 'D')),
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, external_id),
    FOREIGN KEY (organization_id, image_id) REFERENCES images (organization_id, id)
);

-- The newest scan of an image, or of one of its tags.
CREATE INDEX scans_image_idx ON scans (organization_id, image_id, finished_at, external_id);

CREATE TABLE findings (
    organization_id text NOT NULL,
    scan_id text NOT NULL,
    position integer NOT NULL,
    vulnerability_id text NOT NULL,
    package text NOT NULL,
    installed_version text NOT NULL,
    fixed_version text,
    severity text NOT NULL CHECK (
        severity IN ('critical', 'high', 'medium', 'low', 'negligible', 'info', 'unknown')
    ),
    cvss_score real CHECK (cvss_score BETWEEN 0 AND 10),
    title text,
    url text,
    sources text[] NOT NULL,
    PRIMARY KEY (organization_id, scan_id, position),
    FOREIGN KEY (organization_id, scan_id) REFERENCES scans (organization_id, id) ON DELETE CASCADE
);
