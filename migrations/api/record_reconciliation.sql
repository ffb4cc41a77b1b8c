-- Keeps what comparing chunks with their source came to: [{chunk_id, generation, verdict, ...}, ...] of
-- one data set. What speaks of a generation that is not the published one any more is not kept. With a
-- summary it also writes the audit row, once for a run. Answers how many were kept.
create or replace function odf.record_reconciliation(p_data_set int, p_rows jsonb, p_summary text default null) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_name text;
  v_kept bigint;
begin
  perform odf.demand_read_committed();
  select f.name || ':' || d.name into v_name from data_set d join flow f using (flow_id) where d.data_set_id = p_data_set;
  if not found then
    raise exception 'no data set has number %', p_data_set using errcode = 'OD010', hint = 'Name it as coordinator status does.';
  end if;
  -- A settle in between either is seen here or waits until this is written.
  perform from chunk_state c
    join jsonb_to_recordset(p_rows) as r(chunk_id bigint) using (chunk_id)
   where c.data_set_id = p_data_set order by c.chunk_id for share of c;
  insert into reconciliation as x (chunk_id, generation, verdict, expected_rows, expected_sum, expected_from, expected_at,
                                   found_rows, found_sum, today_rows, today_sum, cutoff, reason, keys, checked_at, checked_by)
  select c.chunk_id, c.generation, r.verdict, r.expected_rows, r.expected_sum, r.expected_from, r.expected_at,
         r.found_rows, r.found_sum, r.today_rows, r.today_sum, r.cutoff, left(r.reason, 2000), r.keys, v_now, session_user
    from jsonb_to_recordset(p_rows) as r(chunk_id bigint, generation int, verdict text, expected_rows bigint, expected_sum text,
           expected_from text, expected_at timestamptz, found_rows bigint, found_sum text, today_rows bigint, today_sum text,
           cutoff text, reason text, keys jsonb)
    join chunk_state c on c.chunk_id = r.chunk_id and c.data_set_id = p_data_set and c.generation = r.generation
   order by c.chunk_id
  on conflict (chunk_id) do update
     set generation = excluded.generation, verdict = excluded.verdict, expected_rows = excluded.expected_rows,
         expected_sum = excluded.expected_sum, expected_from = excluded.expected_from, expected_at = excluded.expected_at,
         found_rows = excluded.found_rows, found_sum = excluded.found_sum, today_rows = excluded.today_rows,
         today_sum = excluded.today_sum, cutoff = excluded.cutoff, reason = excluded.reason, keys = excluded.keys,
         checked_at = excluded.checked_at, checked_by = excluded.checked_by;
  get diagnostics v_kept = row_count;
  if p_summary is not null then
    perform odf.log_event('reconciled', v_name, left(p_summary, 2000));
  end if;
  return v_kept;
end $$;
