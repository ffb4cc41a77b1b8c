-- The worker says which leases it holds, [[chunk_id, fence], ...]: leases of its session that are not
-- listed are released uncharged (their claim's answer was lost), listed ones without a lease are named.
create or replace function odf.reconcile(p_session bigint, p_key bytea, p_held jsonb) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  s worker_session := odf.session_of(p_session, p_key, true);
  v_unknown bigint[];
begin
  select array_agg(l.chunk_id) into v_unknown
    from lease l
   where l.session_id = p_session
     and not exists (select from jsonb_array_elements(p_held) h
                      where (h ->> 0)::bigint = l.chunk_id and (h ->> 1)::bigint = l.fence);
  if v_unknown is not null then
    perform odf.release_leases(p_session, v_unknown, 'the claim''s answer was lost');
  end if;
  return jsonb_build_object(
    'released', coalesce(cardinality(v_unknown), 0),
    'lost', (select coalesce(jsonb_agg(h), '[]') from jsonb_array_elements(p_held) h
              where not exists (select from lease l where l.chunk_id = (h ->> 0)::bigint
                                   and l.fence = (h ->> 1)::bigint and l.session_id = p_session)));
end $$;

-- Hands leases of a session back, uncharged, to the end of their lanes.
create or replace function odf.release_leases(p_session bigint, p_chunks bigint[], p_reason text) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_ids bigint[];
  v_who record;
begin
  select w.name, x.host into v_who from worker_session x join worker w using (worker_id) where x.session_id = p_session;
  select array_agg(q.chunk_id) into v_ids
    from (select chunk_id from lease where session_id = p_session and chunk_id = any (p_chunks)
           order by chunk_id for update) q;
  if v_ids is null then
    return 0;
  end if;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for no key update;
  perform odf.end_attempts(p_session, v_who.name, v_who.host, v_ids, null,
    (select jsonb_agg(jsonb_build_object('chunk_id', id, 'outcome', 'released', 'reason', p_reason)) from unnest(v_ids) id), v_now);
  if exists (select from chunk_request where chunk_id = any (v_ids)) then
    perform odf.apply_requests(v_ids);
  end if;
  return cardinality(v_ids);
end $$;
