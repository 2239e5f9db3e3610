-- Notes that a tag had a digest at a time. Rows only widen, so any order of arrival ends the same.
INSERT INTO tags (
    organization_id, image_id, name, digest, is_confirmed, built_at,
    first_observed_at, last_observed_at
)
VALUES (
    %(organization_id)s, %(image_id)s, %(tag)s, %(digest)s, %(is_confirmed)s, %(built_at)s,
    %(observed_at)s, %(observed_at)s
)
ON CONFLICT (organization_id, image_id, name, digest, is_confirmed) DO UPDATE
SET built_at = greatest(tags.built_at, excluded.built_at),
    first_observed_at = least(tags.first_observed_at, excluded.first_observed_at),
    last_observed_at = greatest(tags.last_observed_at, excluded.last_observed_at)
