-- The mailbox: how the list of an inbox finds its page, and what of each email comes along.

-- Ids of one page of an inbox's list, newest first; only_read null takes read and unread. It touches nothing but an
-- index, emails_list or emails_list_by_read. A function, because the planner cannot know how little of an inbox a page
-- is: inside, the plan is made once and for every inbox alike; outside, a page is 20 rows, so that list_page as well is
-- planned once and not, for longer than it then runs, at every request.
CREATE FUNCTION page_of_emails(of_inbox uuid, archived boolean, only_read boolean, page_rows bigint, rows_before bigint)
RETURNS SETOF uuid LANGUAGE plpgsql STABLE ROWS 20 SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF only_read IS NULL THEN
        RETURN QUERY
            SELECT id FROM emails
            WHERE inbox_id = of_inbox AND is_archived = archived
            ORDER BY id DESC LIMIT page_rows OFFSET rows_before;
    ELSE
        RETURN QUERY
            SELECT id FROM emails
            WHERE inbox_id = of_inbox AND is_archived = archived AND is_read = only_read
            ORDER BY id DESC LIMIT page_rows OFFSET rows_before;
    END IF;
END $$;

-- The texts of a message that a stranger may have made as long as he liked, or nothing of them where they weigh more
-- than the most that is wanted: a page of a hundred such messages does not have to fit into memory. The weight is
-- known without reading them: octets of the texts, and for lists eight times what they take on the disk, compressed.
-- Inlined by the planner, so it costs no call.
CREATE FUNCTION texts_of_message(m messages, most integer)
RETURNS TABLE (weight integer, subject text, to_addresses text[], cc_addresses text[], attachments jsonb,
               body_text text, body_html text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT w.weight,
           CASE WHEN w.weight <= most THEN m.subject ELSE '' END,
           CASE WHEN w.weight <= most THEN m.to_addresses ELSE '{}' END,
           CASE WHEN w.weight <= most THEN m.cc_addresses ELSE '{}' END,
           CASE WHEN w.weight <= most THEN m.attachments ELSE '[]' END,
           CASE WHEN w.weight <= most THEN m.body_text END,
           CASE WHEN w.weight <= most THEN m.body_html END
    FROM (
        SELECT octet_length(m.subject) + coalesce(octet_length(m.body_text), 0) + coalesce(octet_length(m.body_html), 0)
               + 8 * (pg_column_size(m.to_addresses) + pg_column_size(m.cc_addresses) + pg_column_size(m.attachments))
    ) AS w (weight);
END;
