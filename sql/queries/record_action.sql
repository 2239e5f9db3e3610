-- Record that an actor did something to each of the targets.
INSERT INTO audit_log (organization_id, actor, action, target, ip)
SELECT %(organization_id)s, %(actor)s, %(action)s, target, %(ip)s
FROM unnest(%(targets)s::text[]) AS target
