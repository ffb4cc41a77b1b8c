-- The leader's other passes: each proves its term, is bounded, idempotent and safe to repeat.

-- Failed chunks whose time has come go to the end of their lanes.
create or replace function odf.retry_due(p_term bigint, p_limit int) returns bigint
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_now timestamptz := odf.clock();
  v_ids bigint[];
begin
  perform odf.prove_term(p_term);
  with picked as materialized (
    select due_at, chunk_id from due where due_at <= v_now order by due_at limit p_limit for update skip locked
  ), gone as (
    delete from due d using picked p where d.due_at = p.due_at and d.chunk_id = p.chunk_id
    returning d.chunk_id, d.attempt
  )
  select array_agg(chunk_id order by chunk_id) into v_ids from gone;
  if v_ids is null then
    return 0;
  end if;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for no key update;
  update chunk_state set status = 'waiting', retry_at = null, reason = null, changed_at = v_now
   where chunk_id = any (v_ids) and status = 'failed' and retry_at <= v_now;
  -- Through waiting, so that an input that was resubmitted meanwhile is waited for.
  return odf.promote_chunks(v_ids);
end $$;

-- Releases what waits for a whole data set, and what of a new plan waits with all its inputs there.
create or replace function odf.promote(p_term bigint) returns bigint
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_ids bigint[];
  v_n bigint := 0;
  j record;
begin
  perform odf.prove_term(p_term);
  for j in
    select job.job_id, job.data_set_id, d.plan_id from job join data_set d using (data_set_id)
     where not job.retired and d.plan_id is not null
       and exists (select from job_input i where i.job_id = job.job_id and i.mapping = 'all')
       and odf.fan_in_complete(job.job_id)
       and (select sum(n) from progress_now p where p.data_set_id = job.data_set_id and p.status = 'waiting') > 0
  loop
    select array_agg(chunk_id) into v_ids
      from (select c.chunk_id from data_chunk k join chunk_state c using (chunk_id)
             where k.plan_id = j.plan_id and c.status = 'waiting' limit 10000) q;
    v_n := v_n + coalesce(odf.promote_chunks(v_ids), 0);
  end loop;
  -- A whole input of which some data was given up under its keep rule is made again first.
  insert into chunk_request (chunk_id, verb, reason, requested_by, requested_at)
  select c.chunk_id, 'resubmit', 'its data was removed and is needed again', session_user, odf.clock()
    from chunk_state c
   where c.removed and c.status = 'validated' and not exists (select from chunk_request r where r.chunk_id = c.chunk_id)
     and c.data_set_id in (
       select i.data_set_id from job_input i join job x using (job_id) join progress_now p on p.data_set_id = x.data_set_id
        where i.mapping = 'all' and not x.retired and p.status = 'waiting' and p.n > 0);
  v_n := v_n + odf.release_new_plans(clock_timestamp() + interval '1 second');
  perform odf.note_stale_whole(clock_timestamp() + interval '0.5 seconds');
  v_n := v_n + odf.release_holds(2000);
  perform odf.apply_requests(null) where exists (select from chunk_request);
  return v_n;
end $$;

-- Looks once, slice by slice, at every chunk of a plan that was sealed (or whose job came back) since
-- the last look. An input that settled while the plan was written knew nothing of these consumers and
-- released none; its row is locked here, so that one that settles now either is seen or sees them.
create or replace function odf.release_new_plans(p_until timestamptz) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  c_slice constant bigint := 5000;
  v_ids bigint[];
  v_n bigint := 0;
  p record;
begin
  for p in
    select l.plan_id, l.chunks, l.released_to from plan l join data_set d using (plan_id) join job j on j.data_set_id = d.data_set_id
     where l.state = 'sealed' and l.released_to < l.chunks and not d.retired and not j.retired
     order by l.plan_id
  loop
    while p.released_to < p.chunks loop
      if clock_timestamp() > p_until then
        return v_n;
      end if;
      v_ids := array(select c.chunk_id from data_chunk c join chunk_state s using (chunk_id)
                      where c.plan_id = p.plan_id and c.ordinal > p.released_to and c.ordinal <= p.released_to + c_slice
                        and s.status = 'waiting');
      perform from chunk_state where chunk_id in (select input_id from chunk_edge where chunk_id = any (v_ids))
        order by chunk_id for share;
      v_n := v_n + odf.promote_chunks(v_ids);
      p.released_to := p.released_to + c_slice;
      update plan set released_to = least(p.released_to, chunks) where plan_id = p.plan_id;
    end loop;
  end loop;
  return v_n;
end $$;

-- Moves every lane's floor up to where no row can lie below any more. A sequence number is drawn
-- before its row is visible, so a floor moves only to what a probe saw whose transactions are all over
-- and that is two minutes old, and never past what is visible now.
create or replace function odf.move_floors(p_term bigint) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_moved int := 0;
  v_seen bigint;
  v_lowest bigint;
  v_last bigint;
  l record;
begin
  perform odf.prove_term(p_term);
  -- Read before the snapshots below: whoever drew a number up to this one had begun before them.
  select last_value into v_last from ready_seq;
  for l in select lane_id, floor_seq from lane order by lane_id loop
    -- Never waits for a lane: claims take several in another order.
    perform from lane where lane_id = l.lane_id for no key update skip locked;
    continue when not found;
    select seq into v_lowest from ready where lane_id = l.lane_id and seq >= l.floor_seq order by seq limit 1;
    select max(seen_seq) into v_seen from floor_probe
     where lane_id = l.lane_id and probed_at <= v_now - interval '2 minutes' and open_xid < pg_snapshot_xmin(pg_current_snapshot());
    -- LEAST ignores NULLs: no qualified probe must not mean "as far as is visible".
    if v_seen is not null and least(v_seen, v_lowest) > l.floor_seq then
      update lane set floor_seq = least(v_seen, v_lowest) where lane_id = l.lane_id and floor_seq = l.floor_seq;
      v_moved := v_moved + 1;
    end if;
    delete from floor_probe where lane_id = l.lane_id and probed_at <= v_now - interval '10 minutes';
    insert into floor_probe
    values (l.lane_id, v_now, pg_snapshot_xmax(pg_current_snapshot()), coalesce(v_lowest, v_last))
    on conflict do nothing;
  end loop;
  return v_moved;
end $$;

-- Looks below the floors. A row there is a defect of ours: the floor is lowered and the hit counted.
create or replace function odf.look_below_floors(p_term bigint) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_hits int := 0;
  v_low bigint;
  l record;
begin
  perform odf.prove_term(p_term);
  for l in select lane_id, floor_seq from lane where floor_seq > 0 loop
    perform from lane where lane_id = l.lane_id for no key update skip locked;
    continue when not found;
    select min(seq) into v_low from ready where lane_id = l.lane_id and seq < l.floor_seq;
    if v_low is not null then
      update lane set floor_seq = v_low where lane_id = l.lane_id;
      delete from floor_probe where lane_id = l.lane_id;
      perform odf.count_bug('row_below_floor', 1, format('lane %s: row %s under floor %s', l.lane_id, v_low, l.floor_seq));
      v_hits := v_hits + 1;
    end if;
  end loop;
  return v_hits;
end $$;

-- Folds progress deltas into one row a data set and status.
create or replace function odf.fold_progress(p_term bigint) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_n bigint;
begin
  perform odf.prove_term(p_term);
  with gone as (
    delete from progress_delta returning *
  ), summed as (
    select data_set_id, status, sum(n) as n, sum(rows_out) as rows_out, sum(bytes_out) as bytes_out,
           sum(generations) as generations, count(*) as folded
      from gone group by data_set_id, status
  ), stored as (
    insert into progress as p
    select data_set_id, status, n, rows_out, bytes_out, generations from summed
    on conflict (data_set_id, status) do update
      set n = p.n + excluded.n, rows_out = p.rows_out + excluded.rows_out,
          bytes_out = p.bytes_out + excluded.bytes_out, generations = p.generations + excluded.generations
  )
  select coalesce(sum(folded), 0) into v_n from summed;
  return v_n;
end $$;

-- Chunks that a state says are claimable but that no queue, lease or due time holds. A hit is a defect
-- of ours: it is queued again and counted. Costs O(chunks of unfinished data sets): run it rarely.
create or replace function odf.find_stranded(p_term bigint, p_older_than interval) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_ids bigint[];
begin
  perform odf.prove_term(p_term);
  select array_agg(q.chunk_id) into v_ids from (
    select c.chunk_id from chunk_state c
      join data_set d on d.data_set_id = c.data_set_id
      join data_chunk k on k.chunk_id = c.chunk_id and k.plan_id = d.plan_id
     where c.status = 'ready' and c.changed_at < odf.clock() - p_older_than
       and not exists (select from lease l where l.chunk_id = c.chunk_id)
       and not exists (select from ready r where r.chunk_id = c.chunk_id and r.attempt = c.attempt_no + 1)
     limit 10000) q;
  if v_ids is null then
    return 0;
  end if;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for no key update;
  perform odf.enqueue(v_ids);
  perform odf.count_bug('stranded_chunk', cardinality(v_ids), v_ids[1]::text);
  return cardinality(v_ids);
end $$;

-- History partitions: a week each, made four weeks ahead, dropped when older than attempts_kept.
create or replace function odf.prune(p_term bigint) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_kept interval := (select attempts_kept from installation);
  v_week timestamp;
  v_name text;
  v_made int := 0;
  v_dropped int := 0;
  p record;
begin
  perform odf.prove_term(p_term);
  for p in select unnest(array['attempt', 'event']) as parent, unnest(array['ended_at', 'at']) as col loop
    execute format('create table if not exists odf.%I partition of odf.%I default', p.parent || '_default', p.parent);
    -- Weeks of UTC, whatever the zone of the session.
    for v_week in select date_trunc('week', v_now at time zone 'UTC') + n * interval '1 week' from generate_series(0, 4) n loop
      v_name := p.parent || to_char(v_week, '_YYYYMMDD');
      if to_regclass('odf.' || v_name) is null then
        -- Rows of that week that are in the default partition would refuse the new one: then it stays there.
        begin
          execute format('create table odf.%I partition of odf.%I for values from (%L) to (%L)',
                         v_name, p.parent, v_week at time zone 'UTC', (v_week + interval '1 week') at time zone 'UTC');
          v_made := v_made + 1;
        exception when check_violation then null;
        end;
      end if;
    end loop;
    for v_name in
      select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
       where i.inhparent = ('odf.' || p.parent)::regclass and c.relname ~ '_[0-9]{8}$'
         and (to_date(right(c.relname, 8), 'YYYYMMDD') + interval '1 week') at time zone 'UTC' < v_now - v_kept
    loop
      execute format('drop table odf.%I', v_name);
      v_dropped := v_dropped + 1;
    end loop;
    execute format('delete from odf.%I where %I < $1', p.parent || '_default', p.col) using v_now - v_kept;
  end loop;
  delete from worker_session where state in ('dead', 'ended') and ended_at < v_now - v_kept;
  delete from session_facts f where not exists (select from worker_session s where s.session_id = f.session_id);
  return jsonb_build_object('made', v_made, 'dropped', v_dropped);
end $$;
