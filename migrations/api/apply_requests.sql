-- Applies what people asked for to the given chunks (all with a request when NULL), as far as it can
-- be done now. A running chunk keeps its request until its attempt ends; a validated chunk that a
-- running consumer reads, alone or with its whole data set, is not overwritten under it.
create or replace function odf.apply_requests(p_chunks bigint[]) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_ids bigint[];
  v_again bigint[];
  v_below bigint[];
  v_whole int[] := odf.sets_read_whole(p_chunks);
begin
  perform odf.demand_read_committed();
  select array_agg(distinct r.chunk_id) into v_ids
    from chunk_request r
   where (p_chunks is null or r.chunk_id = any (p_chunks))
     and not coalesce(r.data_set_id = any (v_whole), false)
     and not exists (select from lease l where l.chunk_id = r.chunk_id)
     and not exists (select from chunk_edge e join lease l on l.chunk_id = e.chunk_id where e.input_id = r.chunk_id);
  if v_ids is null then
    return 0;
  end if;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for no key update;
  -- Looked at again under the locks: a claim locks these rows FOR SHARE before it leases.
  select array_agg(c.chunk_id) into v_ids from chunk_state c
   where c.chunk_id = any (v_ids)
     and not c.data_set_id = any (v_whole)
     and not exists (select from lease l where l.chunk_id = c.chunk_id)
     and not exists (select from chunk_edge e join lease l on l.chunk_id = e.chunk_id where e.input_id = c.chunk_id);
  if v_ids is null then
    return 0;
  end if;
  with taken as (
    delete from chunk_request where chunk_id = any (v_ids) returning *
  ), last_word as (
    select distinct on (chunk_id) * from taken order by chunk_id, request_id desc
  ), changed as (
    update chunk_state c
       set status = case when r.verb = 'resubmit' then 'waiting' else r.verb end::chunk_status,
           reason = case when r.verb = 'resubmit' then null else r.reason end,
           charged = case when r.verb = 'resubmit' then 0 else c.charged end,
           lost = case when r.verb = 'resubmit' then 0 else c.lost end,
           hold_until = case when r.verb = 'held' then r.until end,
           retry_at = null, changed_at = v_now
      from last_word r
     where c.chunk_id = r.chunk_id and c.status <> 'waiting'
       and exists (select from chunk_transition t where t.old_status = c.status
                    and t.new_status = case when r.verb = 'resubmit' then 'waiting' else r.verb end::chunk_status)
       and exists (select from job j where j.data_set_id = c.data_set_id and not j.retired)
    returning c.chunk_id, c.status
  ), from_waiting as (
    update chunk_state c
       set status = r.verb::chunk_status, reason = r.reason, changed_at = v_now,
           hold_until = case when r.verb = 'held' then r.until end
      from last_word r
     where c.chunk_id = r.chunk_id
       -- What is held already is held for another time.
       and (c.status = 'waiting' and r.verb in ('held', 'cancelled') or c.status = 'held' and r.verb = 'held')
  )
  select array_agg(chunk_id) into v_again from changed where status = 'waiting';
  if v_again is not null then
    -- What has not run yet and waits on these goes back to waiting; what is done becomes stale.
    select array_agg(distinct e.chunk_id) into v_below
      from chunk_edge e join chunk_state c on c.chunk_id = e.chunk_id
     where e.input_id = any (v_again) and c.status = 'ready';
    perform from chunk_state where chunk_id = any (v_below) order by chunk_id for no key update;
    update chunk_state c set status = 'waiting', changed_at = v_now
     where c.chunk_id = any (v_below) and c.status = 'ready'
       and not exists (select from lease l where l.chunk_id = c.chunk_id);
    perform odf.promote_chunks(v_again);
  end if;
  -- Consumers wait for an input that was asked for again. One that stays as it was lets them go.
  v_below := array(select e.chunk_id from chunk_state c join chunk_edge e on e.input_id = c.chunk_id
                    where c.chunk_id = any (v_ids) and c.status = 'validated');
  if v_below <> '{}' then
    perform odf.promote_chunks(v_below);
  end if;
  return cardinality(v_ids);
end $$;
