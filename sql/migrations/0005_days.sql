-- How many images were recorded on each day (UTC). A page deep in the order of time is entered at
-- its day, instead of walked to from the nearer end.
CREATE TABLE image_days (
    organization_id text COLLATE "C" NOT NULL REFERENCES organizations,
    day date NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (organization_id, day)
);

INSERT INTO image_days (organization_id, day, n)
SELECT organization_id, (created_at AT TIME ZONE 'UTC')::date, count(*)
FROM images
GROUP BY 1, 2;
