-- The privileges of a role that runs the service alone. Run it after each `harborguard migrate`, as
-- the owner of the tables or as a superuser; docs/operations.md has the commands:
--   psql -v ON_ERROR_STOP=1 -v role=harborguard_service -f sql/service_role.sql DATABASE
SELECT tableowner AS owner
FROM pg_tables
WHERE schemaname = 'public' AND tablename = 'audit_log'
\gset

BEGIN;

-- Begin without privileges, so that the result does not depend on an earlier run.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"role";
GRANT USAGE ON SCHEMA public TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA public TO :"role";
GRANT UPDATE (last_used_at) ON api_keys, personal_access_tokens TO :"role";
GRANT INSERT, UPDATE ON registries, inventories, image_counts TO :"role";
GRANT INSERT, UPDATE, DELETE
    ON images, image_names, image_changes, tags, scans, finding_sets, findings, scan_findings
    TO :"role";
-- Append-only: neither UPDATE nor DELETE.
GRANT INSERT ON audit_log TO :"role";

-- The service also works between a later migration and the next run of this file.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"role";

COMMIT;
