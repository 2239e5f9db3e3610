-- Registries, images, tags, scans, findings and counters. Every key begins with organization_id,
-- so that the tables can be distributed by it.

CREATE TABLE registries (
    organization_id text COLLATE "C" NOT NULL REFERENCES organizations,
    id text COLLATE "C" NOT NULL
        DEFAULT 'reg-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    host text COLLATE "C" NOT NULL CHECK (host = lower(host) AND host <> ''),
    name text NOT NULL CHECK (name <> ''),
    provider text NOT NULL DEFAULT 'generic',
    last_synced_at timestamptz,
    -- The version of this registry's part of the inventory (see inventories).
    version bigint NOT NULL DEFAULT extract(epoch FROM clock_timestamp()) * 1000000,
    -- The newest version of a forgotten deletion in this registry (see image_changes).
    forgotten_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, host)
);

ALTER TABLE api_keys
    ADD FOREIGN KEY (organization_id, registry_id) REFERENCES registries (organization_id, id);

CREATE TABLE images (
    organization_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL
        DEFAULT 'img-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    registry_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Summary columns: refresh_images.sql recomputes them from tags and scans.
    tag_count integer NOT NULL DEFAULT 0 CHECK (tag_count >= 0),
    latest_tag text COLLATE "C",
    latest_digest text COLLATE "C",
    scan_id text COLLATE "C",  -- the scan that score, grade and counts come from (rank 1)
    set_id bigint,  -- the set of that scan's findings; null if they were deleted (contract 6.9)
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
    -- Without a finished scan, an image has no score, which differs from a score of 0 (contract 1).
    CHECK ((risk_score IS NULL) = (scan_id IS NULL)),
    CHECK ((risk_score IS NULL) = (grade IS NULL)),
    CHECK ((risk_score IS NULL) = (last_scanned_at IS NULL)),
    CHECK (set_id IS NULL OR scan_id IS NOT NULL)
);

-- A covering index for each of name, created_at and risk_score. It includes the columns of the
-- filters by registry, grade, score and name, so that counting and paging are index-only scans. The
-- sort columns last_scanned_at and tag_count have no index, because scans change them.
CREATE INDEX images_created_at_idx ON images (organization_id, created_at, id)
    INCLUDE (name, risk_score, registry_id);
CREATE INDEX images_name_idx ON images (organization_id, name, id)
    INCLUDE (risk_score, registry_id);
CREATE INDEX images_risk_score_idx ON images (organization_id, risk_score, id)
    INCLUDE (name, registry_id);
-- Finds the images of a registry, or of a registry and a score, if there are few. Without the id,
-- many entries are equal, and B-tree deduplication keeps the index small.
CREATE INDEX images_registry_idx ON images (organization_id, registry_id, risk_score);
-- A generic plan assumes that a registry has the average number of images. The statement that needs
-- images_registry_idx runs only if the counters show few matches, so set a high number of distinct
-- registries: 0.1 percent of the rows. It takes effect at the next ANALYZE.
ALTER TABLE images ALTER COLUMN registry_id SET (n_distinct = -0.001);

-- A copy of the images' names, for searches. An image's name never changes, so reports do not write
-- to this table, and its pages stay all-visible. Each image has a row here, because the foreign key
-- of images is checked at the commit.
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE TABLE image_names (
    organization_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    registry_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization_id, name) INCLUDE (registry_id),
    FOREIGN KEY (organization_id, name) REFERENCES images (organization_id, name) ON DELETE CASCADE
);
ALTER TABLE images
    ADD FOREIGN KEY (organization_id, name) REFERENCES image_names (organization_id, name)
    DEFERRABLE INITIALLY DEFERRED;
-- A condition on the organization uses this index only if it has the collation POSIX, and the
-- primary key only if it has not. So a statement chooses one of them. Without fastupdate, searches
-- do not read a list of pending entries.
CREATE INDEX image_names_trigram_idx ON image_names
    USING gin (organization_id COLLATE "POSIX", name gin_trgm_ops) WITH (fastupdate = off);
-- Most scans change no indexed column of an image. With free space in the page, such an update adds
-- no index entries. Vacuum soon, because index-only scans read the row if its page changed.
ALTER TABLE images SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE image_names SET (autovacuum_vacuum_insert_scale_factor = 0.02);

-- One row for each digest that a tag was observed with (null: unknown digest), with the first and
-- last time. This time range can only grow, so observations may arrive in any order. Observations
-- by unfinished scans are separate rows (is_confirmed false, contract 6).
CREATE TABLE tags (
    organization_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL
        DEFAULT 'tag-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    image_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    digest text COLLATE "C",
    is_confirmed boolean NOT NULL,
    is_synced boolean NOT NULL,  -- whether a registry sync observed it, and not only scans
    built_at timestamptz,
    first_observed_at timestamptz NOT NULL,
    last_observed_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    UNIQUE NULLS NOT DISTINCT (organization_id, image_id, name, digest, is_confirmed),
    FOREIGN KEY (organization_id, image_id) REFERENCES images (organization_id, id)
        ON DELETE CASCADE
);

CREATE TABLE scans (
    organization_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL
        DEFAULT 'scan-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    image_id text COLLATE "C" NOT NULL,
    external_id text COLLATE "C" NOT NULL CHECK (external_id <> ''),
    content_sha256 bytea NOT NULL CHECK (octet_length(content_sha256) = 32),
    tag text COLLATE "C",
    digest text COLLATE "C",
    scanners text[] NOT NULL,  -- sorted, so that equal sets are equal arrays
    status text NOT NULL CHECK (status IN ('SUCCESS', 'PARTIAL', 'FAILED', 'CANCELLED')),
    -- Scores are computed from finished scans only (contract 6.6).
    is_finished boolean NOT NULL GENERATED ALWAYS AS (status IN ('SUCCESS', 'PARTIAL')) STORED,
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
        ON DELETE CASCADE
);

-- Finds all scans of an image, when some are deleted, and those of a digest (contract 8.12). Many
-- entries are equal, and B-tree deduplication keeps the index small.
CREATE INDEX scans_image_idx ON scans (organization_id, image_id, digest);

-- The distinct sets of findings of an image. Scans with equal findings share one set.
CREATE TABLE finding_sets (
    organization_id text COLLATE "C" NOT NULL,
    image_id text COLLATE "C" NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (organization_id, image_id, sha256),
    FOREIGN KEY (organization_id, image_id) REFERENCES images (organization_id, id)
);

-- Finds the image of a set. As for image_names_trigram_idx, a statement uses an index with the
-- collation POSIX only if its condition has it, so recording a scan keeps the plan of the key.
CREATE UNIQUE INDEX finding_sets_id_idx ON finding_sets (organization_id COLLATE "POSIX", id);

-- The findings of a set. They have no foreign key: it would be checked for each row that is copied.
CREATE TABLE findings (
    organization_id text COLLATE "C" NOT NULL,
    set_id bigint NOT NULL,
    position integer NOT NULL,
    vulnerability_id text NOT NULL,
    package text NOT NULL,
    installed_version text NOT NULL,
    fixed_version text,
    severity text NOT NULL CHECK (
        severity IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW', 'NEGLIGIBLE', 'INFO', 'UNKNOWN')
    ),
    cvss_score real CHECK (cvss_score BETWEEN 0 AND 10),
    epss double precision CHECK (epss BETWEEN 0 AND 1),
    kev boolean,
    title text,
    url text,
    sources text[] NOT NULL,
    PRIMARY KEY (organization_id, set_id, position)
);

-- Find the findings of a vulnerability or a package in all sets. The indexes have no other columns:
-- many entries are equal, and B-tree deduplication keeps them small. Each WHERE is true for every
-- row. With the collation, it keeps other statements from using the index, so each has one plan.
CREATE INDEX findings_vulnerability_idx ON findings
    (organization_id COLLATE "POSIX", (upper(vulnerability_id) COLLATE "C"))
    WHERE vulnerability_id >= '';
CREATE INDEX findings_package_idx ON findings
    (organization_id COLLATE "POSIX", (lower(package) COLLATE "C"))
    WHERE package >= '';

-- The current scans, which are finished and not superseded (contract 6.9), and their sets of
-- findings. The set is null if it was deleted before the scan became current again. tag_key is the
-- tag, or '' without one. They are not columns of scans, because a row of scans is never updated.
-- The primary key is the only index, so every plan uses it, whatever the size of the table was at
-- the planning.
CREATE TABLE scan_findings (
    organization_id text COLLATE "C" NOT NULL,
    image_id text COLLATE "C" NOT NULL,
    tag_key text COLLATE "C" NOT NULL,
    scan_id text COLLATE "C" NOT NULL,
    set_id bigint,
    PRIMARY KEY (organization_id, image_id, tag_key, scan_id),
    FOREIGN KEY (organization_id, image_id) REFERENCES images (organization_id, id)
        ON DELETE CASCADE
);

-- The tags of an image with their current digests: a tag's newest confirmed observation, or else
-- its newest unconfirmed one (contract 6). digest_created_at is the digest's build time if it is
-- known, else the time of its first observation under the tag.
CREATE VIEW current_tags AS
SELECT DISTINCT ON (organization_id, image_id, name)
    organization_id,
    image_id,
    name,
    digest,
    is_confirmed,
    coalesce(built_at, first_observed_at) AS digest_created_at,
    last_observed_at
FROM tags
ORDER BY
    organization_id, image_id, name,
    is_confirmed DESC, last_observed_at DESC, digest DESC NULLS LAST;

-- The rows of the current scans. Only the primary key of scans supports the subquery, so a plan
-- that PostgreSQL makes while tables are empty suits large ones too.
CREATE VIEW current_scans AS
SELECT
    scan_findings.organization_id,
    scan_findings.image_id,
    scan_findings.tag_key,
    scan_findings.set_id,
    scan.id,
    scan.external_id,
    scan.digest,
    scan.scanners,
    scan.status,
    scan.finished_at,
    scan.risk_score,
    scan.grade,
    scan.critical,
    scan.high,
    scan.medium,
    scan.low,
    scan.whole_row
FROM scan_findings
CROSS JOIN LATERAL (
    SELECT scans.*, scans AS whole_row
    FROM scans
    WHERE scans.organization_id = scan_findings.organization_id
        AND scans.id BETWEEN scan_findings.scan_id AND scan_findings.scan_id
    ORDER BY scans.id
    LIMIT 1
) AS scan;

-- Whether a finished scan makes an older one of the same image and tag irrelevant: whatever is
-- recorded later, compared_scans does not return the older one (contract 6.9).
CREATE FUNCTION supersedes(newer scans, older scans) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN (newer.finished_at, newer.external_id) > (older.finished_at, older.external_id)
    AND (
        newer.finished_at > older.finished_at + interval '24 hours'
        OR (
            newer.scanners = older.scanners
            AND (newer.digest IS NULL OR coalesce(newer.digest = older.digest, false))
        )
    );

-- The scans that are compared for the score of a tag ('' without one, contract 6.6): its newest
-- finished scan, and of each other set of scanners the newest one that is at most 24 hours older
-- and not of another digest. Rank 1 is the scan that counts.
CREATE FUNCTION compared_scans(organization_id text, image_id text, tag_key text)
RETURNS TABLE (
    rank bigint,
    newest_finished_at timestamptz,
    id text,
    set_id bigint,
    status text,
    scanners text[],
    finished_at timestamptz,
    risk_score smallint,
    grade text,
    critical integer,
    high integer,
    medium integer,
    low integer
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT
        row_number() OVER (
            ORDER BY scan.risk_score DESC, scan.finished_at DESC, scan.external_id DESC
        ),
        scan.newest_finished_at,
        scan.id,
        scan.set_id,
        scan.status,
        scan.scanners,
        scan.finished_at,
        scan.risk_score,
        scan.grade,
        scan.critical,
        scan.high,
        scan.medium,
        scan.low
    FROM (
        SELECT DISTINCT ON (candidate.scanners)
            candidate.*
        FROM (
            SELECT
                current.*,
                first_value(digest) OVER by_time AS newest_digest,
                first_value(finished_at) OVER by_time AS newest_finished_at
            FROM current_scans AS current
            WHERE current.organization_id = compared_scans.organization_id
                AND current.image_id = compared_scans.image_id
                AND current.tag_key = compared_scans.tag_key
            WINDOW by_time AS (ORDER BY finished_at DESC, external_id DESC)
        ) AS candidate
        WHERE candidate.finished_at >= candidate.newest_finished_at - interval '24 hours'
            AND coalesce(candidate.digest = candidate.newest_digest, true)
        ORDER BY candidate.scanners, candidate.finished_at DESC, candidate.external_id DESC
    ) AS scan;
END;

-- Counters, maintained by the transactions that change images (change_counters.sql).
-- One row for each organization. `version` increases with every change that a list can show. Each
-- new version is at least the time in microseconds, so a restored backup does not repeat a version.
CREATE TABLE inventories (
    organization_id text COLLATE "C" PRIMARY KEY REFERENCES organizations,
    version bigint NOT NULL DEFAULT extract(epoch FROM clock_timestamp()) * 1000000,
    image_count bigint NOT NULL DEFAULT 0,
    -- The newest version of a forgotten deletion (see image_changes).
    forgotten_version bigint NOT NULL DEFAULT 0,
    -- The newest last_scanned_at that an image has had, for the metrics.
    newest_scan_at timestamptz
);

-- The newest change of each image, and of each image that was deleted in the last 30 days (contract
-- 8.14). `version` is the inventory's version after the change. Transactions write here while they
-- lock the inventory row until the commit, so that version order is commit order. The version is
-- not a column of images: it needs an index, and then no update of images would be HOT. It has no
-- foreign keys to images and registries, because a deletion stays longer than both.
CREATE TABLE image_changes (
    organization_id text COLLATE "C" NOT NULL REFERENCES organizations,
    image_id text COLLATE "C" NOT NULL,
    registry_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    deleted_name text COLLATE "C",  -- the name of a deleted image
    deleted_at timestamptz,
    PRIMARY KEY (organization_id, image_id),
    CHECK ((deleted_name IS NULL) = (deleted_at IS NULL))
);

CREATE INDEX image_changes_version_idx ON image_changes (organization_id, version, image_id);
-- Finds the oldest deletions. Only these have entries.
CREATE INDEX image_changes_deleted_idx ON image_changes (organization_id, version)
    WHERE deleted_at IS NOT NULL;

-- The number of images by registry and risk score (null: never scanned).
CREATE TABLE image_counts (
    organization_id text COLLATE "C" NOT NULL,
    registry_id text COLLATE "C" NOT NULL,
    risk_score smallint,
    n bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (organization_id, risk_score, registry_id),
    FOREIGN KEY (organization_id, registry_id) REFERENCES registries (organization_id, id)
);

-- Recorded scans delete rows of these tables. Vacuum them soon, so that new rows reuse the space.
ALTER TABLE findings SET (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE finding_sets SET (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE scan_findings SET (autovacuum_vacuum_scale_factor = 0.05);
-- Each change leaves a dead index entry among the low versions, which a walk from the beginning
-- reads.
ALTER TABLE image_changes SET (autovacuum_vacuum_scale_factor = 0.02);
-- Each recorded scan updates rows of these tables, but no indexed column.
ALTER TABLE tags SET (fillfactor = 80);
ALTER TABLE inventories SET (fillfactor = 50);
ALTER TABLE image_counts SET (fillfactor = 50);
