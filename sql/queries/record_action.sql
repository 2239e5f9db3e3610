-- Record an action in the audit log.
INSERT INTO audit_log (organization_id, actor, action, target, ip)
VALUES (%(organization_id)s, %(actor)s, %(action)s, %(target)s, %(ip)s)
