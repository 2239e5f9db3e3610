-- What a listing would have to count, counted ahead: kept by the transactions that record.

-- One row for each organization. `version` moves with every change that a listing could show; it is
-- a time in microseconds, so that a restored backup never comes back to one that was given out.
CREATE TABLE inventories (
    organization_id text COLLATE "C" PRIMARY KEY REFERENCES organizations,
    version bigint NOT NULL DEFAULT extract(epoch FROM clock_timestamp()) * 1000000,
    image_count bigint NOT NULL DEFAULT 0
);

-- How many images there are of each registry and risk score (null: never scanned).
CREATE TABLE image_counts (
    organization_id text COLLATE "C" NOT NULL,
    registry_id text NOT NULL,
    risk_score smallint,
    n bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (organization_id, risk_score, registry_id),
    FOREIGN KEY (organization_id, registry_id) REFERENCES registries (organization_id, id)
);

INSERT INTO image_counts (organization_id, registry_id, risk_score, n)
SELECT organization_id, registry_id, risk_score, count(*)
FROM images
GROUP BY organization_id, registry_id, risk_score;

INSERT INTO inventories (organization_id, image_count)
SELECT organizations.id, count(images.id)
FROM organizations
LEFT JOIN images ON images.organization_id = organizations.id
GROUP BY organizations.id;

-- For the images of a registry, or of a registry and a score, where they are rare. Without an id its
-- entries repeat, and it stays small.
CREATE INDEX images_registry_idx ON images (organization_id, registry_id, risk_score);
