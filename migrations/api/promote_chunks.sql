-- Moves waiting chunks whose inputs are all there to ready. Their own rows are locked first, so of two
-- inputs that settle at the same moment the later one sees both.
create or replace function odf.promote_chunks(p_chunks bigint[]) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_ready bigint[];
  v_gone bigint[];
begin
  perform odf.demand_read_committed();
  perform from chunk_state where chunk_id = any (p_chunks) and status = 'waiting' order by chunk_id for no key update;
  if not found then
    return 0;
  end if;
  -- An input whose data was given up under its keep rule is made again first.
  select array_agg(distinct i.chunk_id) into v_gone
    from chunk_state c join chunk_edge e on e.chunk_id = c.chunk_id join chunk_state i on i.chunk_id = e.input_id
   where c.chunk_id = any (p_chunks) and c.status = 'waiting' and i.status = 'validated' and i.removed;
  if v_gone is not null then
    insert into chunk_request (chunk_id, verb, reason, requested_by, requested_at)
    select id, 'resubmit', 'its data was removed and is needed again', session_user, v_now from unnest(v_gone) id
     where not exists (select from chunk_request r where r.chunk_id = id);
    perform odf.apply_requests(v_gone);
  end if;
  -- Whether a job's whole inputs are there is asked once a job, not once a chunk.
  with able as materialized (
    select j.data_set_id from job j
     where not j.retired and j.data_set_id in (select data_set_id from chunk_state where chunk_id = any (p_chunks))
       and odf.fan_in_complete(j.job_id)
  )
  select array_agg(c.chunk_id order by c.chunk_id) into v_ready
    from chunk_state c join able using (data_set_id)
   where c.chunk_id = any (p_chunks) and c.status = 'waiting'
     and not exists (select from chunk_edge e join chunk_state i on i.chunk_id = e.input_id
                      where e.chunk_id = c.chunk_id
                        and (i.status <> 'validated' or i.removed
                             -- Asked for again, and about to be: its consumer waits for the new generation.
                             or exists (select from chunk_request r where r.chunk_id = i.chunk_id and r.verb = 'resubmit')))
     -- An input that no plan has is not ready, whatever the others are.
     and not exists (select from chunk_gap g where g.chunk_id = c.chunk_id);
  if v_ready is null then
    return 0;
  end if;
  update chunk_state set status = 'ready', changed_at = v_now where chunk_id = any (v_ready) and status = 'waiting';
  perform odf.enqueue(v_ready);
  return cardinality(v_ready);
end $$;

-- Gives ready chunks their places at the end of their lane, in the order of their ids.
create or replace function odf.enqueue(p_chunks bigint[]) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  insert into ready (lane_id, seq, chunk_id, attempt)
  select q.lane_id, nextval('ready_seq'), q.chunk_id, q.attempt
    from (select n.lane_id, c.chunk_id, c.attempt_no + 1 as attempt
            from chunk_state c join job j on j.data_set_id = c.data_set_id and not j.retired
            join lane n on n.job_id = j.job_id
           where c.chunk_id = any (p_chunks)
           order by c.chunk_id) q;
end $$;

-- Whether every chunk of every input that a job takes whole is validated and there. Exact: the counters
-- are written in the transactions that change the states. A data set without a sealed plan is not ready.
create or replace function odf.fan_in_complete(p_job int) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return not exists (
    select from job_input i join data_set d using (data_set_id)
     where i.job_id = p_job and i.mapping = 'all'
       and (d.plan_id is null
            or (select p.chunks from plan p where p.plan_id = d.plan_id)
               > coalesce((select sum(n) from progress_now x where x.data_set_id = d.data_set_id and x.status = 'validated'), 0)
            or exists (select from chunk_state c where c.data_set_id = d.data_set_id and c.removed)
            or exists (select from chunk_request r where r.data_set_id = d.data_set_id and r.verb = 'resubmit')));
end $$;
