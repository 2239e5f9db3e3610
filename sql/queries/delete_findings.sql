-- Delete the findings of sets. An array, unlike a subquery, leaves one plan at every size.
DELETE FROM findings
WHERE organization_id = %(organization_id)s AND set_id = ANY (%(set_ids)s::bigint[])
